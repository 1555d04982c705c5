"""Video: what a file holds, where each frame lies, decoding rows on demand, encoding raw frames, and whether the encoding kept what matters."""
