"""Operations in eager PyTorch: definitions that the kernels must equal, and the code that runs on a CPU."""

from lwta.kernels.eager import competition, concepts, cpu_loops, cpu_tiles

__all__ = ["competition", "concepts", "cpu_loops", "cpu_tiles"]
