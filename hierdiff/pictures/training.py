"""Oracle divergences and sample split through training (arXiv 2603.03469, figure 1b).

Networks come near to the posteriors that ignore the top k levels first, and move away from them as they learn what
these ignore. The networks of two data sets part before the test loss is smallest.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures.onset import divergences, split_and_excess
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET)}


def draw(records: Records) -> Figure:
    """Two panels: the divergences, and the split beside the excess loss with both minima."""
    curves, summary = records.curves(MIDDLE), records.summary(MIDDLE)
    at = curves.sel(noise=summary["onset_noise"])
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.7))
    divergences(axes[0], at, summary)
    split_and_excess(axes[1], at, summary)
    return figure
