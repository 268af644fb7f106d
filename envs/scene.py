"""Builds the MuJoCo model: a robot's MJCF plus ground, light, motors, contact sensors and solver settings."""

from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from envs.ball import BALL, Ball, add_ball
from envs.ground import RoughGround
from envs.robots.spec import RobotSpec

Collision = Literal["feet", "ground", "full"]
Terrain = Literal["flat", "rough"]

GROUND = "ground"
MAX_DELAY_S = 0.06
"""The longest action delay that the control history can hold."""
MAX_CENTER_SHIFT_M = 0.3 * 3**0.5
"""How far randomization may move the base's center of mass: 0.3 m along each axis."""


@dataclass(frozen=True)
class SolverSettings:
    """How MuJoCo integrates. The defaults are those of training; `benchmarks/physics.py` measures their error."""

    physics_dt_s: float = 0.005
    integrator: str = "Euler"
    cone: str = "pyramidal"
    iterations: int = 5
    """With 2, a Go2 that only stands slides at 0.6 m/s on ground of friction 0.3; with 4 or more it stands. More
    cost nothing: few steps need them."""
    line_search_iterations: int = 8
    tolerance: float = 1e-8
    impratio: float = 1.0


REFERENCE = SolverSettings(physics_dt_s=0.0005, iterations=100, line_search_iterations=50, tolerance=1e-12)
"""Converged: smaller steps or more iterations change nothing that matters."""


def build_model(
    robot: RobotSpec,
    *,
    terrain: Terrain = "flat",
    collision: Collision = "ground",
    solver: SolverSettings | None = None,
    rough: RoughGround | None = None,
    stiction: float = 1.0,
    visual: bool = True,
    ball: Ball | None = None,
) -> mujoco.MjModel:
    """The compiled model of one robot on its ground, and of the ball that it stands on where there is one.

    collision: "feet" lets only the feet touch the ground, "ground" every collision geom, "full" adds
    contact between the robot's own parts; a ball counts as ground there. terrain applies to robots with feet;
    others hang in their own frame and get a floor to look at only. stiction above 1 replaces the joints' dry
    friction by a LuGre model whose static friction is that many times the sliding one. visual False leaves out
    every geom that neither touches anything nor gives its body its mass: batches of thousands would carry and move
    them at every step.
    """
    spec = mujoco.MjSpec.from_file(str(robot.mjcf))
    _set_solver(spec, solver or SolverSettings())
    _set_collision(spec, robot, collision, priority=1 if ball is None else 2)
    _add_ground(spec, robot, terrain, rough or RoughGround())
    if ball is not None:
        add_ball(spec, ball, visual)
    _add_motors(spec, robot, (solver or SolverSettings()).physics_dt_s, stiction)
    _add_contact_sensors(spec, robot, collision, on_ball=ball is not None)
    if not visual:
        for geom in list(spec.geoms):
            weighs = geom.parent.name != "world" and not geom.parent.explicitinertial
            if not (geom.contype or geom.conaffinity or weighs):
                spec.delete(geom)
    model = spec.compile()
    _widen_base_bounds(model, robot)
    return model


def _widen_base_bounds(model: mujoco.MjModel, robot: RobotSpec) -> None:
    """Lets the base touch things wherever randomization puts its center of mass.

    MuJoCo keeps a body's bounding boxes relative to its center of mass and does not move them when body_ipos
    changes: with the center 5 cm higher, the lowest 5 cm of the base would sink into the ground unnoticed.
    """
    base = model.body(robot.base_body).id
    first, count = model.body_bvhadr[base], model.body_bvhnum[base]
    model.bvh_aabb[first : first + count, 3:] += MAX_CENTER_SHIFT_M


def _set_solver(spec: mujoco.MjSpec, solver: SolverSettings) -> None:
    option = spec.option
    option.timestep = solver.physics_dt_s
    option.integrator = getattr(mujoco.mjtIntegrator, f"mjINT_{solver.integrator.upper()}")
    option.cone = getattr(mujoco.mjtCone, f"mjCONE_{solver.cone.upper()}")
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.iterations = solver.iterations
    option.ls_iterations = solver.line_search_iterations
    option.tolerance = solver.tolerance
    option.impratio = solver.impratio


def _set_collision(spec: mujoco.MjSpec, robot: RobotSpec, collision: Collision, priority: int) -> None:
    """Bit 0 is the ground's and the ball's, bit 1 the robot's own parts'."""
    for geom in spec.geoms:
        if geom.contype == 0 and geom.conaffinity == 0:
            continue  # visual
        touches_ground = collision != "feet" or geom.name in robot.feet
        geom.priority = priority  # the robot's friction counts, not the larger of the two
        geom.contype = 2 if collision == "full" else 0
        geom.conaffinity = (1 if touches_ground else 0) | (2 if collision == "full" else 0)


def _add_ground(spec: mujoco.MjSpec, robot: RobotSpec, terrain: Terrain, rough: RoughGround) -> None:
    # Tiles under a bright sky: motion shows on them, black feet stand out, haze hides the far ones.
    texture = spec.add_texture(
        name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=200, height=200, rgb1=[0.63, 0.66, 0.69], rgb2=[0.56, 0.59, 0.63],
    )  # fmt: skip
    texture.mark, texture.markrgb = mujoco.mjtMark.mjMARK_EDGE, [0.75, 0.78, 0.80]
    material = spec.add_material(name="ground", texrepeat=[2, 2], texuniform=True, specular=0.1)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        width=256, height=256, rgb1=[0.40, 0.56, 0.74], rgb2=[1.0, 1.0, 0.99],
    )  # fmt: skip
    visual = spec.visual
    visual.headlight.ambient = [0.42, 0.42, 0.42]
    visual.headlight.diffuse = [0.28, 0.28, 0.28]
    visual.headlight.specular = [0.05, 0.05, 0.05]
    visual.rgba.haze = visual.rgba.fog = [0.72, 0.78, 0.85, 1.0]
    visual.map.fogstart, visual.map.fogend, visual.map.zfar = 3.5, 16.0 if robot.feet else 9.0, 30.0
    # High and wide, it lights all one sees; its shadow map covers the robot (a cone of cutoff * shadowscale).
    # A directional light would speckle the ground with false shadows at the edge of its map.
    light = spec.worldbody.add_light(pos=[-3.2, -2.0, 8.0], dir=[0.4, 0.25, -1.0], castshadow=True)
    light.type, light.cutoff, light.exponent = mujoco.mjtLightType.mjLIGHT_SPOT, 80.0, 0.0
    light.diffuse, light.specular = [0.62, 0.62, 0.62], [0.3, 0.3, 0.3]
    visual.map.shadowscale = 0.14 if robot.feet else 0.25
    if robot.feet:
        light.mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM
        light.targetbody = robot.base_body
    ground = spec.worldbody.add_geom(
        name=GROUND, material="ground", contype=1 if robot.feet else 0, conaffinity=0, condim=3
    )
    if terrain == "rough" and robot.feet:
        heights = rough.heights_m()
        spec.add_hfield(
            name=GROUND, nrow=heights.shape[0], ncol=heights.shape[1], userdata=heights.ravel() / heights.max(),
            size=[rough.half_size_m, rough.half_size_m, rough.amplitude_m, 0.5],
        )  # fmt: skip
        ground.type, ground.hfieldname = mujoco.mjtGeom.mjGEOM_HFIELD, GROUND
    else:
        ground.type, ground.size = mujoco.mjtGeom.mjGEOM_PLANE, [0, 0, 0.5]


def _add_motors(spec: mujoco.MjSpec, robot: RobotSpec, physics_dt_s: float, stiction: float) -> None:
    """One DC motor with a position controller a driven joint.

    MuJoCo's dcmotor evaluates PD control, the motor's torque-speed line and its torque limit at every
    physics step. One volt stands for the full supply: R and K then follow from stall torque and no-load
    speed (MuJoCo XML reference, actuator/dcmotor, nominal).
    """
    for i, joint in enumerate(robot.driven_joints):
        lugre = [0.0] * 5
        if stiction > 1.0:
            sliding, spec.joint(joint).frictionloss = spec.joint(joint).frictionloss, 0.0
            # Bristles that bend by 0.01 rad before they slip; 0.1 rad/s separates sticking from sliding.
            lugre = [sliding / 0.01, 0.1, sliding, stiction * sliding, 0.1] if sliding > 0 else lugre
        motor = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_dcmotor(
            motorconst=[0.0, 0.0],
            resistance=0.0,
            nominal=[1.0, robot.stall_torque[i], robot.velocity_limit[i]],
            saturation=[robot.torque_limit[i], 0.0, 0.0],
            controller=[robot.kp[i], 0.0, robot.kd[i], 0.0, 0.0, 1.0],
            lugre=lugre,
            ctrlspec=mujoco.mjtCtrlInput.mjINPUT_POS,
        )
        motor.nsample = int(np.ceil(MAX_DELAY_S / physics_dt_s))
        motor.delay = 0.0


def _add_contact_sensors(spec: mujoco.MjSpec, robot: RobotSpec, collision: Collision, on_ball: bool) -> None:
    """Net force of each foot on what it stands on, the ball or the ground, and which parts of the robot touch what."""

    def add(name: str, kind: mujoco.mjtObj, obj: str, on: str, data: mujoco.mjtConDataField, reduce: int) -> None:
        spec.add_sensor(
            name=name, type=mujoco.mjtSensor.mjSENS_CONTACT, objtype=kind, objname=obj,
            reftype=mujoco.mjtObj.mjOBJ_GEOM, refname=on, intprm=[1 << int(data), reduce, 1],
        )  # fmt: skip

    fields, support = mujoco.mjtConDataField, BALL if on_ball else GROUND
    for foot in robot.feet:
        add(f"{foot}_force", mujoco.mjtObj.mjOBJ_GEOM, foot, support, fields.mjCONDATA_FORCE, 3)
    if robot.feet and collision != "feet":
        # On a ball, knees come near it: the link above may touch it as well.
        above = [spec.body(body).parent.name for body in robot.contact_bodies] if on_ball else []
        for body in (*robot.contact_bodies, *above, robot.base_body):
            kind = mujoco.mjtObj.mjOBJ_XBODY if body == robot.base_body else mujoco.mjtObj.mjOBJ_BODY
            add(f"{body}_touch", kind, body, support, fields.mjCONDATA_FOUND, 0)
        if on_ball:
            add("down_touch", mujoco.mjtObj.mjOBJ_XBODY, robot.base_body, GROUND, fields.mjCONDATA_FOUND, 0)
