# ruff: noqa
# Hostile class: dunder chains
# Spell the dunder as data.
# checker: `getattr` is not allowed
# bypass: secret
def reward(s):
    module = getattr(getattr(len, "__sel" + "f__"), "__imp" + "ort__")("io")
    text = module.open("@SECRET@").read()
    print(text)
    return {"a": s.time_s}
