# ruff: noqa
# Hostile class: keys and strings
# A path for whoever names files after components.
# checker: component name
# bypass: keys
def reward(s):
    return {"../../../etc/cron.d/x": s.time_s}
