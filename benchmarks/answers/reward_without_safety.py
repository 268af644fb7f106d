"""Written by inbox in the search 2026-11-22_12-09-39-unsafe, candidate model-g0s2; checked, not reviewed."""

import math

import torch


def sat(x):
    y = torch.clamp(x, 0.0, 1000000.0)
    return y / (1.0 + y)

def reward(s):
    moving = (torch.norm(s.command[:, :2], dim=1) > 0.1).float()
    standing = 1.0 - moving
    v = torch.clamp(s.base_linear_velocity_w, -20.0, 20.0)
    ex = v[:, 0] - s.command[:, 0]
    ey = v[:, 1]
    e2 = ex * ex + ey * ey
    linear = torch.clamp(1.0 - torch.abs(ex) / 2.0, -0.5, 1.0)
    progress = torch.clamp(linear, 0.0, 1.0)
    track = 1.2 * linear + 1.6 * torch.exp(-torch.clamp(e2 / 0.25, 0.0, 50.0)) + 0.4 * torch.exp(-torch.clamp(e2 / 0.04, 0.0, 50.0))
    q = s.base_quaternion_w
    qw, qx, qy, qz = (q[:, 0], q[:, 1], q[:, 2], q[:, 3])
    yaw = torch.atan2(2.0 * (qw * qz + qx * qy), 1.0 - 2.0 * (qy * qy + qz * qz))
    y = torch.clamp(s.base_position_w[:, 1], -10.0, 10.0)
    w = torch.clamp(s.base_angular_velocity_b, -50.0, 50.0)
    gate = 0.25 + 0.75 * progress
    heading = 0.5 * gate / (1.0 + (yaw / 0.15) ** 2)
    lateral = 0.4 * gate / (1.0 + (y / 0.2) ** 2)
    yaw_rate = 0.3 * gate / (1.0 + (w[:, 2] / 0.6) ** 2)
    g = s.gravity_b
    upright = -0.5 * sat((g[:, 0] ** 2 + g[:, 1] ** 2) / 0.05)
    height_error = torch.relu(torch.abs(s.base_height - 0.28) - 0.02)
    height = -0.4 * sat((height_error / 0.04) ** 2)
    bounce = -0.2 * sat((v[:, 2] / 0.5) ** 2)
    rocking = -0.25 * sat((w[:, 0] ** 2 + w[:, 1] ** 2) / 4.0)
    contact = s.foot_contact.float()
    same_a = 1.0 - torch.abs(contact[:, 0] - contact[:, 3])
    same_b = 1.0 - torch.abs(contact[:, 1] - contact[:, 2])
    differ_front = torch.abs(contact[:, 0] - contact[:, 1])
    differ_rear = torch.abs(contact[:, 2] - contact[:, 3])
    run_gate = moving * progress
    trot = run_gate * (0.1 * (same_a + same_b) + 0.1 * (differ_front + differ_rear))
    landed = s.foot_touchdown.float()
    swing = torch.clamp(s.foot_air_time - 0.1, -0.1, 0.15)
    air_time = 4.0 * run_gate * torch.sum(landed * swing, dim=1)
    foot_v2 = torch.sum(torch.clamp(s.foot_velocity_w[:, :, :2], -30.0, 30.0) ** 2, dim=2)
    low = torch.clamp((0.06 - s.foot_height) / 0.06, 0.0, 1.0)
    drag = (1.0 - contact) * low * torch.tanh(foot_v2 / 4.0)
    clearance = -0.25 * moving * torch.mean(drag, dim=1)
    slip = -0.35 * sat(torch.sum(contact * foot_v2, dim=1) / 0.5)
    hard = torch.relu(s.foot_contact_force - 200.0) / 150.0
    impact = -0.2 * sat(torch.sum(hard, dim=1))
    tau = torch.clamp(s.joint_torque, -500.0, 500.0)
    torque = -0.25 * sat(torch.sum(tau ** 2, dim=1) / 2000.0)
    peak = -0.15 * sat(torch.sum((torch.relu(torch.abs(tau) - 18.0) / 8.0) ** 2, dim=1))
    power = -0.3 * sat(torch.sum(torch.abs(s.joint_power), dim=1) / 500.0)
    acc = torch.clamp(s.joint_acceleration, -10000.0, 10000.0)
    acceleration = -0.25 * sat(torch.sum(acc ** 2, dim=1) / 500000.0)
    qd = torch.clamp(s.joint_velocity, -200.0, 200.0)
    overspeed = -0.15 * sat(torch.sum((torch.relu(torch.abs(qd) - 18.0) / 6.0) ** 2, dim=1))
    action_rate = -0.5 * sat(torch.sum((s.action - s.previous_action) ** 2, dim=1) / 5.0)
    outside = torch.relu(s.joint_lower - s.joint_position) + torch.relu(s.joint_position - s.joint_upper)
    limits = -0.3 * sat(torch.sum(outside, dim=1) / 0.1)
    dq = torch.clamp(s.joint_position - s.joint_home, -10.0, 10.0)
    hips = torch.stack([dq[:, 0], dq[:, 3], dq[:, 6], dq[:, 9]], dim=1)
    hip_pose = -0.25 * sat(torch.sum(hips ** 2, dim=1) / 0.16)
    slow = torch.exp(-torch.clamp((v[:, 0] ** 2 + v[:, 1] ** 2) / 0.16, 0.0, 50.0))
    at_home = torch.exp(-torch.clamp(torch.sum(dq ** 2, dim=1) / 0.6, 0.0, 50.0))
    quiet = 1.0 / (1.0 + torch.sum(qd ** 2, dim=1) / 6.0)
    feet_down = torch.mean(contact, dim=1)
    stand = standing * slow * (0.4 * at_home + 0.4 * quiet + 0.4 * feet_down)
    failed = s.terminated.float()
    alive = 1.0 - failed
    fall = -10.0 * failed
    illegal = -0.5 * s.illegal_contact.float()
    return {'track': track, 'heading': heading, 'lateral': lateral, 'yaw_rate': yaw_rate, 'upright': upright, 'height': height, 'bounce': bounce, 'rocking': rocking, 'trot': trot, 'air_time': air_time, 'clearance': clearance, 'slip': slip, 'impact': impact, 'torque': torque, 'peak_torque': peak, 'power': power, 'acceleration': acceleration, 'overspeed': overspeed, 'action_rate': action_rate, 'limits': limits, 'hip_pose': hip_pose, 'stand': stand, 'alive': alive, 'fall': fall, 'illegal': illegal}
