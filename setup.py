"""Packaging. Metadata lives here alone: a [project] table in pyproject.toml would break colcon."""

from pathlib import Path

from setuptools import find_packages, setup

PYBULLET = "pybullet>=3.2.7"
PYBULLET_WHEEL = f'{PYBULLET}; python_version < "3.12"'  # elsewhere it is built, by a C++ compiler and in minutes

EXTRAS = {
    "vlm": ["open-clip-torch==3.3.0", "torchvision==0.28.0"],  # that torchvision goes with torch 2.13
    "bullet": [PYBULLET],
    "web": ["fastapi>=0.115", "uvicorn>=0.35", "websockets>=14"],
    "object-store": ["obstore>=0.9"],
    "convert": ["h5py>=3.10", "pyarrow>=15"],
    "view": ["rerun-sdk>=0.23"],
    "onnx": ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.5"],
    "sweep": ["optuna>=4"],
    "dev": [
        "axe-playwright-python",  # carries axe-core, which checks that the page is for everybody
        "fastapi>=0.115",
        "playwright>=1.50",  # drives the system's chromium
        "uvicorn>=0.35",
        "websockets>=14",
        "h5py>=3.10",
        "pyarrow>=15",
        "mink>=1.3",  # against which our inverse kinematics is checked
        PYBULLET_WHEEL,
        "minari>=0.5",  # whose own reader has to open what we export
        "dynamixel-sdk",  # the vendors' SDKs, run against our stand-in motors
        "feetech-servo-sdk",
        "hypothesis",
        "import-linter",
        "flask",  # moto's server
        "flask-cors",
        "moto[s3]>=5",  # an S3 on this machine
        "mypy",
        "obstore>=0.9",
        "onnx>=1.18",
        "onnxruntime>=1.22",
        "onnxscript>=0.5",
        "optuna>=4",
        "open-clip-torch==3.3.0",
        "pytest",
        "pytest-rerunfailures",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "scipy",
        "setuptools>=77",  # builds the package of the README
        "torchvision==0.28.0",
        "types-PyYAML",
    ],
}
EXTRAS["all"] = sorted(
    {
        requirement
        for extra in ("vlm", "web", "convert", "view", "object-store", "onnx", "sweep")
        for requirement in EXTRAS[extra]
    }
    | {PYBULLET_WHEEL}
)

ROOT = Path(__file__).parent


def shared(*patterns: str) -> list[tuple[str, list[str]]]:
    """Files to install below share/robolearn, where the library looks when there is no checkout."""
    folders: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                name = path.relative_to(ROOT)
                folders.setdefault(f"share/robolearn/{name.parent}", []).append(str(name))
    return sorted(folders.items())


setup(
    name="robolearn",
    version="0.1.0",
    description="Demonstrations, policies and a MuJoCo twin on one ROS 2 graph",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["robolearn", "robolearn.*"]), "robolearn_nodes"],
    package_data={"robolearn.web": ["static/*"]},
    package_dir={"robolearn_nodes": "ros_ws/src/robolearn_nodes/robolearn_nodes"},
    install_requires=[
        "av>=14",
        "cyclonedds==11.0.1",
        "google-crc32c",
        "gymnasium>=1.1",
        "imagecodecs>=2025.3",
        "imageio",  # Gymnasium draws its MuJoCo environments with it
        "matplotlib",
        "mujoco>=4.0,<5",
        "numpy>=2",
        "opencv-python-headless>=5",
        "pyserial",
        "pyyaml",
        "rich",
        "rosbags>=0.11.9,<0.12",
        "safetensors",
        "tensorboard",
        "torch>=2.13",
        "tyro",
        "zarr>=3.1,<4",
    ],
    extras_require=EXTRAS,
    data_files=shared(
        "sim_assets/**/*", "hardware/**/*", "launch/*.yaml", "benchmarks/*.py", "ros_ws/src/robolearn_msgs/*/*"
    ),
    entry_points={
        "console_scripts": ["robolearn = robolearn.cli:main"],
        "zarr.codecs": [  # so that zarr.open reads the images of our datasets
            "imagecodecs_jpeg = robolearn.datasets.zarr_codecs:Jpeg",
            "imagecodecs_jpegxl = robolearn.datasets.zarr_codecs:Jpegxl",
            "robolearn_video = robolearn.datasets.zarr_codecs:VideoGroups",
        ],
    },
)
