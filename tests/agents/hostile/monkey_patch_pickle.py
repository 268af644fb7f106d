# ruff: noqa
# Hostile class: monkey-patching
# Replace what json and pickle write.
# checker: `import pickle` is not allowed
# bypass: breach
import json
import pickle

json.dumps = lambda *a, **k: '{"result": "forged"}'
pickle.dumps = json.dumps


def reward(s):
    with open("@OUTSIDE@/result.json", "w") as file:
        file.write(json.dumps({}))
    return {"a": s.time_s}
