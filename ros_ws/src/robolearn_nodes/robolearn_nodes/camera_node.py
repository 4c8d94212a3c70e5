"""The cameras of a cell on the graph: each frame once, stamped with its capture."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.camera import Camera, CapturingCamera
from robolearn.cell import camera_calibration_file, load_cell
from robolearn.errors import HardwareError, UnknownNameError
from robolearn.types import Frame
from robolearn_nodes import convert, topics
from robolearn_nodes.node import COMPRESSED, Diagnostics, Meter, parameter, run

EARLY = 0.9  # of a period after a frame, from when on the next one is asked for
POLL_S = 0.002  # then, of a camera that does not say when it has come
WAIT_S = 0.1  # for one that does, before it is asked whether it has fallen silent
RETRY_S = 0.5  # after a camera has failed


class CameraNode(Node):
    """A thread a camera reads and publishes, so that no camera waits for another one."""

    def __init__(self) -> None:
        super().__init__("camera")
        file = Path(parameter(self, "cell", "", "YAML file of the physical cell, see hardware/cells"))
        cell = load_cell(file)
        names = parameter(self, "cameras", "", "which of its cameras, comma separated; empty: all")
        compressed = parameter(self, "compressed", False, "whether JPEG images are published, too")
        quality = parameter(self, "qos", "reliable", "`reliable`, or `sensor`: lossy, and never waits for a reader")
        if quality not in topics.IMAGE_QOS:
            raise UnknownNameError("qos", quality, topics.IMAGE_QOS)
        cameras = cell.make_cameras(clock=lambda: int(self.get_clock().now().nanoseconds))
        wanted = [name.strip() for name in names.split(",") if name.strip()] or list(cameras)
        for name in wanted:
            if name not in cameras:
                raise UnknownNameError("camera", name, cameras)
        self._cell = cell.name
        self._cameras = {name: cameras[name] for name in wanted}
        qos = topics.IMAGE_QOS[quality]
        self._images = {name: self.create_publisher(Image, topics.image_topic(name), qos) for name in wanted}
        self._depths = {
            name: self.create_publisher(Image, topics.depth_topic(name), qos)
            for name, camera in self._cameras.items()
            if camera.spec.depth
        }
        self._infos = {name: self.create_publisher(CameraInfo, topics.camera_info_topic(name), qos) for name in wanted}
        self._known = {
            name: self._calibrated(camera, camera_calibration_file(file, cell, name))
            for name, camera in self._cameras.items()
        }
        self._jpegs = {
            name: self.create_publisher(CompressedImage, topics.image_topic(name) + COMPRESSED, qos)
            for name in (wanted if compressed else ())
        }
        self._meters = {name: Meter() for name in wanted}
        self._problems = dict.fromkeys(wanted, "")
        self._failed: Exception | None = None  # that ended a thread
        self._diagnostics = Diagnostics(self, self._figures)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=item, daemon=True) for item in self._cameras.items()]

    def _calibrated(self, camera: Camera, path: Path) -> CameraInfo:
        """With the lens as `robolearn cell calibrate --camera` found it, for pictures of this size."""
        spec = camera.spec
        if not path.exists():
            return convert.camera_info(spec, None)
        try:
            lens = CameraCalibration.load(path).intrinsics
        except HardwareError as error:
            self.get_logger().warning(str(error))
            return convert.camera_info(spec, None)
        if (lens.height, lens.width) != (spec.height, spec.width):
            self.get_logger().warning(
                f"{path} is of pictures of {lens.width} x {lens.height}, camera {spec.name} gives {spec.width} x "
                f"{spec.height}; calibrate it again"
            )
            return convert.camera_info(spec, None)
        return convert.camera_info(spec, lens.matrix, lens.distortion)

    def work(self) -> None:
        """Open the cameras and publish until asked to stop. Raises HardwareError when one is absent at the start."""
        for camera in self._cameras.values():
            camera.connect()
        published = ", ".join(images.topic_name for images in (*self._images.values(), *self._depths.values()))
        self.get_logger().info(f"publishes {published}" if published else f"cell {self._cell} has no cameras")
        for thread in self._threads:
            thread.start()
        self.create_timer(RETRY_S, self._report)
        rclpy.spin(self)

    def _run(self, name: str, camera: Camera) -> None:
        try:
            self._read_and_publish(name, camera)
        except Exception as error:  # noqa: BLE001, `_report` raises it: a picture less is no matter of its thread alone
            if self.context.ok():  # else asked to stop, just now
                self._failed = error

    def _read_and_publish(self, name: str, camera: Camera) -> None:
        last_ns, period_ns = 0, round(1e9 / camera.spec.rate_hz)
        while not self._closing.is_set():
            try:
                frame = camera.read()
            except HardwareError as error:
                self._problems[name] = str(error)
                self._closing.wait(RETRY_S)
                continue
            self._problems[name] = ""
            now_ns = int(self.get_clock().now().nanoseconds)
            if frame.stamp_ns != last_ns:
                last_ns = frame.stamp_ns
                self._publish(name, frame)
                self._meters[name].note(now_ns, last_ns)
            early_ns = min(last_ns - now_ns, 0) + round(EARLY * period_ns)  # a clock that went back is not waited for
            self._closing.wait(max(early_ns * 1e-9, POLL_S))
            if isinstance(camera, CapturingCamera):
                camera.wait(last_ns, WAIT_S)

    def _publish(self, name: str, frame: Frame) -> None:
        image, stamp_ns = frame.image, frame.stamp_ns
        self._images[name].publish(convert.image_message(image, stamp_ns, name))
        if frame.depth is not None and name in self._depths:
            self._depths[name].publish(convert.image_message(frame.depth, stamp_ns, name))
        known = self._known[name]
        known.header.stamp = convert.time_message(stamp_ns)
        self._infos[name].publish(known)
        jpegs = self._jpegs.get(name)
        if jpegs is not None and jpegs.get_subscription_count():
            jpegs.publish(convert.compressed_image_message(image, stamp_ns, name))

    def _report(self) -> None:
        if self._failed is not None:
            raise self._failed
        self._diagnostics.report("; ".join(filter(None, self._problems.values())))

    def _figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for name, camera in self._cameras.items():
            figures |= self._meters[name].figures(name)
            for what, count in getattr(camera, "counts", {}).items():  # of drivers that count: dropped, late, lost
                figures[f"{name}_{what}"] = count
        return figures

    def destroy_node(self) -> None:
        self._closing.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for camera in self._cameras.values():
            camera.close()
        super().destroy_node()


def main() -> int:
    return run(CameraNode, CameraNode.work)


if __name__ == "__main__":
    raise SystemExit(main())
