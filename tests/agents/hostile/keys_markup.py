# ruff: noqa
# Hostile class: keys and strings
# Markup for the report page.
# checker: component name
# bypass: keys
def reward(s):
    return {"<script>alert(1)</script>": s.time_s}
