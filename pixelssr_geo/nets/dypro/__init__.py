"""DyPro-Mamba, the network of the paper."""
