"""Everything between a trained policy and a moving robot.

A *bundle* (one ONNX file and one JSON contract) is run by a fixed-rate *runtime* through a *link* (one robot
connection).  Every command passes the *supervisor* (`sim2real.safety`), and on a real robot a separate
*guard* process (`sim2real.guard`) owns the command topic and damps when the runtime falls silent.

What runs on the robot's side needs NumPy, onnxruntime and the connection's own package; never torch or
mujoco.
"""
