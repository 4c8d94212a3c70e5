"""The ament_python package; the nodes need the robolearn library in the same Python."""

from setuptools import setup

NODES = (
    "camera",
    "policy",
    "practice",
    "recorder",
    "replay",
    "reward",
    "robot",
    "supervisor",
    "tag",
    "teleop",
    "twin",
    "web",
)

setup(
    name="robolearn_nodes",
    version="0.1.0",
    packages=["robolearn_nodes"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/robolearn_nodes"]),
        ("share/robolearn_nodes", ["package.xml"]),
    ],
    zip_safe=True,
    license="Apache-2.0",
    entry_points={"console_scripts": [f"{n}_node = robolearn_nodes.{n}_node:main" for n in NODES]},
)
