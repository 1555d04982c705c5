"""RLDS/TFDS datasets, without TensorFlow."""
