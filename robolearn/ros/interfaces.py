"""Definitions of the standard ROS 2 services, actions and messages that rosbags' type store lacks.

The texts are the public interfaces of ROS 2 Jazzy (REP-149 style packages), reduced to their fields; their hashes are
tested against those of a native installation.
"""

from __future__ import annotations

_PARAMETERS_SET = "rcl_interfaces/Parameter[] parameters\n---\n"
_TRIGGER = "---\nbool success\nstring message\n"
_SET_BOOL = "bool data\n---\nbool success\nstring message\n"

TEXTS: dict[str, str] = {
    "std_srvs/srv/Empty": "---\n",
    "std_srvs/srv/SetBool": _SET_BOOL,
    "std_srvs/srv/Trigger": _TRIGGER,
    "example_interfaces/srv/SetBool": _SET_BOOL,
    "example_interfaces/srv/Trigger": _TRIGGER,
    "example_interfaces/msg/WString": "wstring data\n",
    "example_interfaces/srv/AddTwoInts": "int64 a\nint64 b\n---\nint64 sum\n",
    "example_interfaces/action/Fibonacci": "int32 order\n---\nint32[] sequence\n---\nint32[] sequence\n",
    "action_msgs/srv/CancelGoal": (
        "GoalInfo goal_info\n---\n"
        "int8 ERROR_NONE=0\nint8 ERROR_REJECTED=1\nint8 ERROR_UNKNOWN_GOAL_ID=2\nint8 ERROR_GOAL_TERMINATED=3\n"
        "int8 return_code\nGoalInfo[] goals_canceling\n"
    ),
    "rcl_interfaces/srv/DescribeParameters": (
        "string[] names\n---\nrcl_interfaces/ParameterDescriptor[] descriptors\n"
    ),
    "rcl_interfaces/srv/GetParameters": "string[] names\n---\nrcl_interfaces/ParameterValue[] values\n",
    "rcl_interfaces/srv/GetParameterTypes": "string[] names\n---\nuint8[] types\n",
    "rcl_interfaces/srv/ListParameters": (
        "uint64 DEPTH_RECURSIVE=0\nstring[] prefixes\nuint64 depth\n---\nrcl_interfaces/ListParametersResult result\n"
    ),
    "rcl_interfaces/srv/SetParameters": _PARAMETERS_SET + "rcl_interfaces/SetParametersResult[] results\n",
    "rcl_interfaces/srv/SetParametersAtomically": _PARAMETERS_SET + "rcl_interfaces/SetParametersResult result\n",
    "rcl_interfaces/srv/GetLoggerLevels": "string[] names\n---\nrcl_interfaces/LoggerLevel[] levels\n",
    "rcl_interfaces/srv/SetLoggerLevels": (
        "rcl_interfaces/LoggerLevel[] levels\n---\nrcl_interfaces/SetLoggerLevelsResult[] results\n"
    ),
    "lifecycle_msgs/srv/ChangeState": "Transition transition\n---\nbool success\n",
    "lifecycle_msgs/srv/GetState": "---\nState current_state\n",
    "lifecycle_msgs/srv/GetAvailableStates": "---\nState[] available_states\n",
    "lifecycle_msgs/srv/GetAvailableTransitions": "---\nTransitionDescription[] available_transitions\n",
    "diagnostic_msgs/srv/AddDiagnostics": "string load_namespace\n---\nbool success\nstring message\n",
    "diagnostic_msgs/srv/SelfTest": "---\nstring id\nbyte passed\nDiagnosticStatus[] status\n",
    "sensor_msgs/srv/SetCameraInfo": "sensor_msgs/CameraInfo camera_info\n---\nbool success\nstring status_message\n",
    "type_description_interfaces/srv/GetTypeDescription": (
        "string type_name\nstring type_hash\nbool include_type_sources true\n---\n"
        "bool successful\nstring failure_reason\nTypeDescription type_description\n"
        "TypeSource[] type_sources\nKeyValue[] extra_information\n"
    ),
    "control_msgs/action/FollowJointTrajectory": (
        "trajectory_msgs/JointTrajectory trajectory\n"
        "trajectory_msgs/MultiDOFJointTrajectory multi_dof_trajectory\n"
        "JointTolerance[] path_tolerance\nJointComponentTolerance[] component_path_tolerance\n"
        "JointTolerance[] goal_tolerance\nJointComponentTolerance[] component_goal_tolerance\n"
        "builtin_interfaces/Duration goal_time_tolerance\n---\n"
        "int32 error_code\nint32 SUCCESSFUL=0\nint32 INVALID_GOAL=-1\nint32 INVALID_JOINTS=-2\n"
        "int32 OLD_HEADER_TIMESTAMP=-3\nint32 PATH_TOLERANCE_VIOLATED=-4\nint32 GOAL_TOLERANCE_VIOLATED=-5\n"
        "string error_string\n---\n"
        "std_msgs/Header header\nstring[] joint_names\n"
        "trajectory_msgs/JointTrajectoryPoint desired\ntrajectory_msgs/JointTrajectoryPoint actual\n"
        "trajectory_msgs/JointTrajectoryPoint error\nstring[] multi_dof_joint_names\n"
        "trajectory_msgs/MultiDOFJointTrajectoryPoint multi_dof_desired\n"
        "trajectory_msgs/MultiDOFJointTrajectoryPoint multi_dof_actual\n"
        "trajectory_msgs/MultiDOFJointTrajectoryPoint multi_dof_error\n"
    ),
    "control_msgs/action/GripperCommand": (
        "GripperCommand command\n---\nfloat64 position\nfloat64 effort\nbool stalled\nbool reached_goal\n---\n"
        "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal\n"
    ),
    "control_msgs/msg/GripperCommand": "float64 position\nfloat64 max_effort\n",
    "control_msgs/msg/JointTolerance": "string name\nfloat64 position\nfloat64 velocity\nfloat64 acceleration\n",
    "control_msgs/msg/JointComponentTolerance": (
        "uint16 X_AXIS=1\nuint16 Y_AXIS=2\nuint16 Z_AXIS=3\nuint16 TRANSLATION=4\nuint16 ROTATION=5\n"
        "string joint_name\nuint16 component\nfloat64 position\nfloat64 velocity\nfloat64 acceleration\n"
    ),
}

# Field defaults other than zero in the messages of the type store, which keeps none.
DEFAULTS: dict[str, dict[str, float]] = {"geometry_msgs/msg/Quaternion": {"w": 1.0}}
