"""Read an RLDS folder with TFDS, decoded, and keep some episodes as .npz: run by `dataengine bench ingest --peers` in the `tfds` environment."""

import json
import resource
import sys
import time

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds


def main() -> None:
    """Usage: read_tfds.py VERSION_FOLDER EPISODES OUT.npz; prints {"steps", "cpu_s", "wall_s"}."""
    folder, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    dataset = tfds.builder_from_directory(folder).as_dataset(split="train", read_config=tfds.ReadConfig(add_tfds_id=False))
    next(iter(dataset.take(1)))  # tracing and start-up are not counted
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    steps, kept = 0, []
    for episode in dataset.take(count):
        for step in tfds.as_numpy(episode["steps"]):
            steps += 1
            if len(kept) < 400:
                kept.append({key: value for key, value in step["observation"].items() if getattr(value, "ndim", 0) == 3} | {"action": step["action"]})
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    np.savez(out, **{key: np.stack([step[key] for step in kept]) for key in kept[0]})
    print(json.dumps({"steps": steps, "cpu_s": cpu_s, "wall_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
