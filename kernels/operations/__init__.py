"""Operations, one file each; `lwta.kernels` exports them."""
