"""The operations, one file each; `lwta.kernels` exports them."""
