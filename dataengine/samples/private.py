"""Recordings that hold what nobody may see: a name, a place, serial numbers and faces, planted wherever formats have room for them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.aloha import AlohaOptions, write_aloha
from dataengine.samples.arm import ArmConfig, ArmRecording, CameraTrack, record
from dataengine.samples.pictures import encode_picture, encoded_frames, marked_jpeg
from dataengine.samples.rlds import RldsOptions, rlds_example, rlds_features, write_dataset
from dataengine.samples.ros import definition, encode, header, ros_type
from dataengine.samples.tfexample import encode_example
from dataengine.samples.video import VideoOptions, write_film


@dataclass(frozen=True)
class Secrets:
    """What is planted; no other text or number of the samples holds any of it."""

    name: str = "Quirina Zwölfer"
    login: str = "qzwoelfer"
    email: str = "quirina.zwoelfer@example.org"
    phone: str = "+49 30 901820417"
    robot_serial: str = "panda-295341-1325480"
    camera_serial: str = "18026681"
    latitude: float = 52.5163742
    longitude: float = 13.3777041
    altitude: float = 34.5017

    @property
    def texts(self) -> dict[str, bytes]:
        """Return each secret as it stands in texts."""
        words = {"name": self.name, "login": self.login, "email": self.email, "phone": self.phone, "robot": self.robot_serial, "camera": self.camera_serial}
        numbers = {"latitude text": str(self.latitude), "longitude text": str(self.longitude)}
        return {what: text.encode() for what, text in (words | numbers).items()}

    @property
    def numbers(self) -> dict[str, bytes]:
        """Return each coordinate as it stands in arrays and messages."""
        return {what: struct.pack("<d", value) for what, value in (("latitude", self.latitude), ("longitude", self.longitude), ("altitude", self.altitude))}


SECRETS = Secrets()
ARM = ArmConfig(height=96, width=128, max_steps=10)
QUALITY = 82  # not that in which pictures are encoded again: nothing of the bytes may then be the same


@dataclass
class Planted:
    """A folder of private recordings, and the encoded pictures and frames that stood in them."""

    folder: Path
    pictures: list[bytes] = field(default_factory=list)


def exif_jpeg(jpeg: bytes, secrets: Secrets) -> bytes:
    """Return a JPEG with an Exif segment that names who and where, and a comment; the picture's own bytes stay."""
    told = f"{secrets.name};{secrets.latitude},{secrets.longitude};{secrets.camera_serial}".encode()
    body = b"Exif\0\0" + b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x013B, 2, len(told), 26) + b"\0\0\0\0" + told
    with_exif = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    return marked_jpeg(with_exif, f"camera {secrets.camera_serial}".encode())


def private_arm(index: int, paint: Callable[[Array], Array] | None = None, config: ArmConfig = ARM) -> ArmRecording:
    """Return a recording of the sample world whose pictures went through `paint` ((N, H, W, 3) to the same), and whose task names somebody."""
    recording = record(7, index, config)
    if paint is not None:
        recording = replace(recording, cameras={name: replace(track, images=paint(track.images)) for name, track in recording.cameras.items()})
    task = f"{recording.task}, as {SECRETS.name} ({SECRETS.email}) asked"
    return replace(recording, task=task, phrases=(task,))


def _with_exif(recording: ArmRecording, planted: Planted) -> ArmRecording:
    """Return a recording whose encoded pictures say who and where; they are noted."""
    cameras: dict[str, CameraTrack] = {}
    for name, track in recording.cameras.items():
        pictures = {row: exif_jpeg(jpeg, SECRETS) for row, jpeg in enumerate(encoded_frames(track, "jpeg", QUALITY))}
        planted.pictures += pictures.values()
        cameras[name] = replace(track, replaced=pictures)
    return replace(recording, cameras=cameras)


def write_private_rlds(planted: Planted, recordings: Sequence[ArmRecording]) -> None:
    """Write an RLDS dataset whose episode metadata and steps say who, where and with what."""
    made = [_with_exif(recording, planted) for recording in recordings]
    options = RldsOptions(name="private_arm")
    features = rlds_features(made[0], options)
    told = {"operator": "name", "robot_serial_number": "robot", "notes": "notes"}
    text = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    scalar = {"pythonClassName": "tensorflow_datasets.core.features.scalar.Scalar", "tensor": {"shape": {}, "dtype": "float64", "encoding": "none"}}
    features["featuresDict"]["features"]["episode_metadata"]["featuresDict"]["features"] |= dict.fromkeys(told, text)
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    steps |= {"gps_latitude": scalar, "gps_longitude": scalar}
    examples = []
    for recording in made:
        example = rlds_example(recording, options)
        count = len(np.asarray(example["steps/reward"]))
        example |= {
            "episode_metadata/operator": [SECRETS.name.encode()],
            "episode_metadata/robot_serial_number": [SECRETS.robot_serial.encode()],
            "episode_metadata/notes": [f"call {SECRETS.phone}; robot {SECRETS.robot_serial}, by {SECRETS.name}".encode()],
            "episode_metadata/file_path": [f"/home/{SECRETS.login}/data/{recording.name}.npy".encode()],
            "steps/gps_latitude": np.full(count, SECRETS.latitude),
            "steps/gps_longitude": np.full(count, SECRETS.longitude),
        }
        examples.append(encode_example(example))
    write_dataset(planted.folder / "rlds", options, features, {"train": (len(examples), examples)}, recordings[0].config.control_hz)


def write_private_hdf5(planted: Planted, recordings: Sequence[ArmRecording]) -> None:
    """Write ALOHA files with attributes and datasets that say who, where and with what."""
    import h5py

    for recording in recordings:
        for track in recording.cameras.values():
            planted.pictures += encoded_frames(track, "jpeg", QUALITY)
    for path in write_aloha(planted.folder / "aloha-private", recordings, AlohaOptions(compress=True, quality=QUALITY)):
        with h5py.File(path, "r+") as file:
            file.attrs["operator"] = SECRETS.name
            file.attrs["robot_serial_number"] = SECRETS.robot_serial
            file.attrs["source"] = f"/home/{SECRETS.login}/recordings"
            file.attrs["contact"] = SECRETS.email
            rows = len(file["action"])
            file["observations"].create_dataset("gps_position", data=np.tile([SECRETS.latitude, SECRETS.longitude, SECRETS.altitude], (rows, 1)))


def write_private_film(planted: Planted, recordings: Sequence[ArmRecording]) -> None:
    """Write MP4 files with sound, whose container says who, where and with what."""
    import av

    folder = planted.folder / "films-private"
    captions = {}
    for number, recording in enumerate(recordings):
        plain = write_film(folder / f"plain_{number}.mp4", recording, ["front"], VideoOptions(audio=True))
        path = folder / f"film_{number}.mp4"
        with av.open(str(plain)) as source, av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as target:
            streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
            target.metadata.update(
                {
                    "artist": SECRETS.name,
                    "location": f"+{SECRETS.latitude}+{SECRETS.longitude}/",
                    "comment": f"{SECRETS.email} camera {SECRETS.camera_serial}",
                    "com.example.serial_number": SECRETS.camera_serial,
                }
            )
            for packet in source.demux():
                if packet.dts is None:
                    continue
                if packet.stream.type == "video" and packet.size > 64:
                    planted.pictures.append(bytes(packet))
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        plain.unlink()
        with path.open("ab") as file:  # a box that no player shows, as camera makers write them
            body = f"maker notes: {SECRETS.name}, {SECRETS.camera_serial}".encode()
            file.write(struct.pack(">I4s", len(body) + 8, b"uuid") + body)
        captions[path.name] = recording.task
    (folder / "captions.json").write_text(json.dumps(captions))


def _ros_topics(recording: ArmRecording, planted: Planted) -> list[tuple[str, str, str, str, bytes, int, bytes]]:
    """Return messages of a recording as (topic, type, schema encoding, message encoding, schema, time in ns, payload)."""
    said: list[tuple[str, str, str, str, bytes, int, bytes]] = []

    def say(topic: str, kind: str, t_ns: int, value: dict[str, Any]) -> None:
        said.append((topic, ros_type(kind, "ros2"), "ros2msg", "cdr", definition(kind, "ros2").encode(), t_ns, encode(kind, value, "ros2")))

    for row, t_ns in enumerate(recording.joint_t_ns.tolist()):
        stamp = recording.start_ns + t_ns
        joints = {"position": recording.joint_position[row], "velocity": recording.joint_velocity[row], "effort": recording.joint_effort[row]}
        say("/joint_states", "sensor_msgs/JointState", stamp, {"header": header(stamp), "name": ["a", "b", "c", "d", "e"], **joints})
    for row, (t_ns, image) in enumerate(zip(recording.cameras["front"].t_ns.tolist(), recording.cameras["front"].images, strict=True)):
        stamp = recording.start_ns + t_ns
        jpeg = exif_jpeg(encode_picture(image, "jpeg", QUALITY), SECRETS)
        planted.pictures.append(jpeg)
        say("/camera/front/compressed", "sensor_msgs/CompressedImage", stamp, {"header": header(stamp, "front"), "format": "jpeg", "data": jpeg})
        video = {"timestamp": stamp, "frame_id": "front", "data": jpeg[2:] * 2, "format": "h264"}
        say("/camera/front/video", "foxglove_msgs/CompressedVideo", stamp, video)
        place = {"latitude": SECRETS.latitude, "longitude": SECRETS.longitude, "altitude": SECRETS.altitude}
        rest = {"status": {"status": 0, "service": 1}, "position_covariance": [0.0] * 9, "position_covariance_type": 0}
        say("/fix", "sensor_msgs/NavSatFix", stamp, {"header": header(stamp, "antenna"), **place, **rest})
        content = json.dumps({"row": row, "lat": SECRETS.latitude, "speed": 0.5, "user": {"name": SECRETS.name}}).encode()
        said.append(("/state", "lab.State", "jsonschema", "json", b'{"type": "object"}', stamp, content))
        shown = json.dumps({"thumbnail": base64.b64encode(jpeg).decode()}).encode()
        said.append(("/thumbnail", "lab.Thumbnail", "jsonschema", "json", b'{"type": "object"}', stamp, shown))
    start = recording.start_ns + int(recording.joint_t_ns[0])
    say("/task", "std_msgs/String", start, {"data": recording.task})
    say("/operator", "std_msgs/String", start, {"data": SECRETS.name})
    say("/log", "std_msgs/String", start, {"data": f"/home/{SECRETS.login}/ws started; {SECRETS.phone}"})
    return sorted(said, key=lambda message: message[5])


def write_private_mcap(planted: Planted, recordings: Sequence[ArmRecording]) -> None:
    """Write MCAP files with pictures in messages that are read, and in such as are not, a GPS, names and an attached photograph."""
    from mcap.writer import Writer

    folder = planted.folder / "teleop-private"
    folder.mkdir(parents=True, exist_ok=True)
    for number, recording in enumerate(recordings):
        with (folder / f"{number}.mcap").open("wb") as file:
            writer = Writer(file)
            writer.start("ros2", f"recorder of {SECRETS.name}")
            channels: dict[str, int] = {}
            for topic, kind, schema_encoding, encoding, schema, t_ns, payload in _ros_topics(recording, planted):
                if topic not in channels:
                    channels[topic] = writer.register_channel(topic, encoding, writer.register_schema(kind, schema_encoding, schema))
                writer.add_message(channels[topic], t_ns, payload, t_ns)
            photograph = exif_jpeg(encode_picture(recording.cameras["wrist"].images[0], "jpeg", QUALITY), SECRETS)
            planted.pictures.append(photograph)
            writer.add_attachment(recording.start_ns, recording.start_ns, "who.jpg", "image/jpeg", photograph)
            writer.add_attachment(
                recording.start_ns, recording.start_ns, "arm.urdf", "application/xml", b"<robot name='arm'>" + b"<link name='l'/>" * 40 + b"</robot>"
            )
            writer.add_metadata(
                "session", {"operator": SECRETS.name, "cameraSerialNumber": SECRETS.camera_serial, "gps": f"{SECRETS.latitude} {SECRETS.longitude}"}
            )
            writer.add_metadata("robot", {"serial": SECRETS.robot_serial, "model": "panda"})
            writer.finish()


def write_private(folder: Path, paint: Callable[[Array], Array] | None = None) -> Planted:
    """Write private recordings in four formats below `folder`."""
    planted = Planted(folder)
    write_private_rlds(planted, [private_arm(index, paint) for index in range(2)])
    write_private_hdf5(planted, [private_arm(2, paint)])
    write_private_film(planted, [private_arm(3, paint)])
    write_private_mcap(planted, [private_arm(4, paint)])
    return planted
