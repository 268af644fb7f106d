"""Written by inbox in the search 2026-11-22_12-09-31-safe, candidate model-g1s2; checked, not reviewed."""

import math

import torch


def sat(x):
    x = torch.clamp(x, 0.0, 10000.0)
    return x / (1.0 + x)

def bell(x, width):
    return torch.exp(-torch.clamp((x / width) ** 2, 0.0, 50.0))

def hill(x, width):
    return 1.0 / (1.0 + torch.clamp((x / width) ** 2, 0.0, 10000.0))

def reward(s):
    cmd = s.command[:, 0]
    run = (torch.abs(cmd) > 0.1).float()
    stop = 1.0 - run
    vb = s.base_linear_velocity_b
    vw = s.base_linear_velocity_w
    wb = s.base_angular_velocity_b
    contact = s.foot_contact.float()
    swing = 1.0 - contact
    q = s.base_quaternion_w
    qw, qx, qy, qz = (q[:, 0], q[:, 1], q[:, 2], q[:, 3])
    yaw = torch.atan2(2.0 * (qx * qy + qw * qz), 1.0 - 2.0 * (qy * qy + qz * qz))
    lateral = s.base_position_w[:, 1]
    straight = 0.3 + 0.25 * hill(yaw, 0.15) + 0.15 * hill(lateral, 0.25) + 0.15 * bell(vw[:, 1], 0.3) + 0.15 * bell(wb[:, 2], 0.6)
    tilt2 = s.gravity_b[:, 0] ** 2 + s.gravity_b[:, 1] ** 2
    upright = torch.exp(-torch.clamp(tilt2 / 0.12, 0.0, 50.0)) * (s.gravity_b[:, 2] < 0.0).float()
    launch = 0.4 + 4.0 * torch.clamp(s.time_s, 0.0, 10.0)
    target = torch.clamp(torch.minimum(torch.abs(cmd), launch), min=0.3)
    err_w = vw[:, 0] - target
    err_b = vb[:, 0] - target
    ramp = torch.clamp(1.0 - torch.abs(err_w) / target, -0.5, 1.0)
    ramp_pos = torch.clamp(ramp, 0.0, 1.0)
    progress = 0.8 * run * upright * ramp
    track = 2.2 * run * upright * straight * (0.45 * ramp_pos + 0.55 * bell(err_b, 0.45))
    speed = torch.sqrt(vw[:, 0] ** 2 + vw[:, 1] ** 2 + 1e-08)
    home_err = ((s.joint_position - s.joint_home) ** 2).mean(dim=1)
    pose = 1.0 / (1.0 + torch.clamp(home_err / 0.04, 0.0, 10000.0))
    still = 1.0 / (1.0 + torch.clamp((s.joint_velocity ** 2).mean(dim=1) / 1.5, 0.0, 10000.0))
    stand = bell(speed, 0.5) * (0.35 * contact.mean(dim=1) + 0.35 * pose + 0.3 * still)
    stop_score = 0.35 * torch.clamp(1.0 - speed / 2.0, 0.0, 1.0) + 0.3 * hill(speed, 0.3) + 0.35 * stand
    finish = 1.2 * stop * upright
    task_stop = 2.0 * stop * upright * stop_score * (0.7 + 0.3 * straight)
    moving = run * upright * torch.clamp(vb[:, 0], 0.0, 1.0)
    air = torch.clamp(s.foot_air_time, 0.0, 0.3)
    ground = torch.clamp(s.foot_contact_time, 0.0, 0.3)
    same = 0.5 * ((air[:, 0] - air[:, 3]) ** 2 + (ground[:, 0] - ground[:, 3]) ** 2 + (air[:, 1] - air[:, 2]) ** 2 + (ground[:, 1] - ground[:, 2]) ** 2)
    opposite = 0.5 * ((air[:, 0] - ground[:, 1]) ** 2 + (ground[:, 0] - air[:, 1]) ** 2 + (air[:, 3] - ground[:, 2]) ** 2 + (ground[:, 3] - air[:, 2]) ** 2)
    gait_trot = 0.3 * moving * torch.exp(-torch.clamp(same / 0.02 + opposite / 0.04, 0.0, 50.0))
    step_len = torch.clamp((s.foot_air_time - 0.09) / 0.1, -1.0, 1.0)
    gait_steps = 0.25 * moving * (s.foot_touchdown.float() * step_len).sum(dim=1)
    foot_v = s.foot_velocity_w
    foot_vxy2 = foot_v[:, :, 0] ** 2 + foot_v[:, :, 1] ** 2
    foot_vxy = torch.sqrt(foot_vxy2 + 1e-08)
    low = torch.clamp((0.06 - s.foot_height) / 0.06, 0.0, 1.0) ** 2 * torch.tanh(foot_vxy / 2.0)
    high = torch.clamp((s.foot_height - 0.13) / 0.06, 0.0, 3.0) ** 2
    clearance = -0.15 * sat((swing * (low + high)).sum(dim=1))
    slip = -0.22 * sat((contact * foot_vxy2).sum(dim=1) / 0.5)
    force = torch.clamp(s.foot_contact_force, min=0.0)
    loaded = (s.foot_contact_force > 15.0).float()
    cone = torch.clamp(s.foot_shear_force - 0.4 * force, min=0.0)
    shear = -0.12 * sat((loaded * cone).sum(dim=1) / 30.0)
    hard = torch.clamp((force - 200.0) / 150.0, 0.0, 10.0) ** 2
    near = (s.foot_height < 0.03).float() * swing
    slam = torch.clamp(-foot_v[:, :, 2] - 0.5, 0.0, 5.0) ** 2
    impact = -0.14 * sat((hard + near * slam).sum(dim=1))
    height_err = torch.clamp(torch.abs(s.base_height - 0.28) - 0.02, 0.0, 1.0)
    height = -0.12 * sat((height_err / 0.03) ** 2)
    tilt = -0.2 * sat(tilt2 / 0.02)
    sway = -0.16 * sat((wb[:, 0] ** 2 + wb[:, 1] ** 2) / 4.0)
    yaw_rate = -0.1 * sat((wb[:, 2] / 0.7) ** 2)
    bounce = -0.06 * sat(vw[:, 2] ** 2 / 0.12)
    d_action = s.action - s.previous_action
    action_rate = -0.85 * torch.clamp((d_action ** 2).mean(dim=1), 0.0, 1.0)
    edge = (torch.clamp(torch.abs(s.action) - 0.85, 0.0, 1.0) ** 2).sum(dim=1)
    action_size = -0.1 * torch.clamp((s.action ** 2).mean(dim=1), 0.0, 1.0) - 0.05 * sat(10.0 * edge)
    joint_acc = -0.16 * sat(((s.joint_acceleration / 220.0) ** 2).mean(dim=1))
    tau = torch.abs(s.joint_torque)
    tau_ratio = torch.cat([tau[:, 0::3] / 23.7, tau[:, 1::3] / 23.7, tau[:, 2::3] / 40.0], dim=1)
    torque = -0.1 * sat((tau_ratio ** 2).mean(dim=1) / 0.15) - 0.1 * sat((torch.clamp((tau_ratio - 0.7) / 0.25, 0.0, 4.0) ** 2).sum(dim=1))
    vel = torch.abs(s.joint_velocity)
    vel_ratio = torch.cat([vel[:, 0::3] / 30.0, vel[:, 1::3] / 30.0, vel[:, 2::3] / 20.0], dim=1)
    joint_speed = -0.1 * sat((torch.clamp((vel_ratio - 0.6) / 0.2, 0.0, 5.0) ** 2).sum(dim=1))
    power = -0.1 * sat(torch.abs(s.joint_power).sum(dim=1) / 500.0)
    span = torch.clamp(s.joint_upper - s.joint_lower, min=0.1)
    over = (torch.clamp(s.joint_position - (s.joint_upper - 0.06 * span), min=0.0) + torch.clamp(s.joint_lower + 0.06 * span - s.joint_position, min=0.0)) / (0.06 * span)
    joint_limit = -0.1 * sat((torch.clamp(over, 0.0, 10.0) ** 2).sum(dim=1))
    hip_dev = ((s.joint_position[:, 0::3] - s.joint_home[0::3]) ** 2).mean(dim=1)
    fy = s.foot_position_b[:, :, 1]
    narrow = (torch.clamp((0.09 + fy[:, 0::2]) / 0.05, 0.0, 3.0) ** 2).sum(dim=1) + (torch.clamp((0.09 - fy[:, 1::2]) / 0.05, 0.0, 3.0) ** 2).sum(dim=1)
    stance_width = -0.1 * sat(hip_dev / 0.05 + narrow)
    ended = s.terminated.float()
    alive = 0.9 * (1.0 - ended)
    fall = -12.0 * ended
    return {'progress': progress, 'track': track, 'finish': finish, 'task_stop': task_stop, 'alive': alive, 'fall': fall, 'gait_trot': gait_trot, 'gait_steps': gait_steps, 'clearance': clearance, 'slip': slip, 'shear': shear, 'impact': impact, 'height': height, 'tilt': tilt, 'sway': sway, 'yaw_rate': yaw_rate, 'bounce': bounce, 'action_rate': action_rate, 'action_size': action_size, 'joint_acc': joint_acc, 'torque': torque, 'joint_speed': joint_speed, 'power': power, 'joint_limit': joint_limit, 'stance_width': stance_width}
