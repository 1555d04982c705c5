"""Write raw arrays as a LeRobot dataset in its default settings, and say how near its pictures are to them: run by `dataengine bench load --peers`."""

import json
from pathlib import Path

import numpy as np
from lerobot_environment import prepare
from measure import answer, asked


def write(raw: Path, out: Path) -> None:
    """Write every episode of a raw folder."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    spec = json.loads((raw / "raw.json").read_text())
    shape = (spec["height"], spec["width"], 3)
    features = {f"observation.images.{name}": {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"]} for name in spec["cameras"]}
    first = np.load(raw / "episode_000000" / "state.npy", mmap_mode="r")
    features |= {name: {"dtype": "float32", "shape": first.shape[1:], "names": None} for name in ("observation.state", "action")}
    dataset = LeRobotDataset.create("bench/load", fps=spec["rate_hz"], features=features, root=out, robot_type="bench")
    for episode in range(spec["episodes"]):
        folder = raw / f"episode_{episode:06d}"
        arrays = {f"observation.images.{name}": np.load(folder / f"{name}.npy", mmap_mode="r") for name in spec["cameras"]}
        arrays |= {"observation.state": np.load(folder / "state.npy"), "action": np.load(folder / "action.npy")}
        for step in range(spec["steps"]):
            dataset.add_frame({name: values[step] for name, values in arrays.items()} | {"task": spec["task"]})
        dataset.save_episode()
    dataset.finalize()


def errors(raw: Path, out: Path, stride: int) -> dict[str, list[list[float]]]:
    """Return for each camera [squared error summed, values] of each episode, over every `stride`-th frame as the dataset delivers it, as uint8."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    spec = json.loads((raw / "raw.json").read_text())
    dataset = LeRobotDataset("bench/load", root=out)
    found: dict[str, list[list[float]]] = {name: [] for name in spec["cameras"]}
    for episode in range(spec["episodes"]):
        for name in spec["cameras"]:
            found[name].append([0.0, 0.0])
        arrays = {name: np.load(raw / f"episode_{episode:06d}" / f"{name}.npy", mmap_mode="r") for name in spec["cameras"]}
        for step in range(0, spec["steps"], stride):
            sample = dataset[episode * spec["steps"] + step]
            for name, truth in arrays.items():
                seen = np.rint(sample[f"observation.images.{name}"].numpy().transpose(1, 2, 0) * 255)
                found[name][-1][0] += float(((seen - truth[step]) ** 2).sum())
                found[name][-1][1] += seen.size
    return found


def main() -> None:
    """Write {"out"} from {"raw"} unless it is there, and print {"bytes", "errors"}."""
    spec = asked()
    prepare()
    raw, out = Path(spec["raw"]), Path(spec["out"])
    if not (out / "meta" / "info.json").exists():
        write(raw, out)
    size = sum(path.stat().st_size for part in ("meta", "data", "videos") for path in (out / part).rglob("*") if path.is_file())
    answer({"bytes": size, "errors": errors(raw, out, spec["stride"])})


if __name__ == "__main__":
    main()
