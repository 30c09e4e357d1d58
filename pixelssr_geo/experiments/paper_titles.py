"""What the paper's tables and figures are about; apart from what they consist of, so that a help text loads nothing."""

TITLES = {
    "table1": "modes and ratios of labels",
    "table2": "every network in every mode",
    "table3": "Gamma against Gaussian, by ratio",
    "table4": "components of DyPro-Mamba",
    "table5": "FRFT against FFT",
    "table6": "losses",
    "table7-9": "stability over ten draws of modelled spectra",
    "table11": "Gamma against Gaussian, all metrics",
    "table12": "components of DyPro-Mamba, on another dataset",
    "table13": "every network in every mode, all metrics",
}
"""Those that consist of trained networks, by the command's name."""

FIGURE_TITLES = {
    "figure1": "PSNR of every network in every mode",
    "figure2": "how reflectance is distributed, in truth and with Gamma and Gaussian spectra",
    "figure4": "frequencies in the neck's prompts",
    "figure5": "spectra with Gamma and Gaussian spectra, at three pixels",
    "figure6": "errors of every network, and spectra at one pixel",
    "figure7": "errors of every network in three channels",
    "figure8": "feature maps of the neck",
}
"""Figures that show results, by the command's name; Figure 3 is a diagram."""
