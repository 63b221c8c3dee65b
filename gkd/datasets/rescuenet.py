"""RescueNet: streets and houses from the air after a hurricane, target of the Potsdam sources.

Its 11 ids become the five classes of the label space "rescue". How the published experiments grouped them is not
known; this grouping is our own (gkd/data/tables/rescuenet.csv).
"""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place

TARGET = Domain("rescuenet", "rescuenet", "test")

RESCUENET = Layout(
    name="rescuenet",
    places=(Place("{split}/{split}-org-img/*.jpg", "{split}/{split}-label-img/*_lab.png", "rescuenet"),),
    splits={"train": "train", "val": "val", "test": "test"},
    published={"train": 3_595, "val": 449, "test": 450},
    about=About(
        url="https://github.com/BinaLab/RescueNet-A-High-Resolution-Post-Disaster-UAV-Dataset-for-Semantic-Segmentation"
        " (figshare collection 6647354)",
        licence="unclear: the repository says CC BY-NC-ND 4.0, copies on figshare say CC BY 4.0",
        size="3,595 train, 449 val and 450 test images of 4000x3000",
    ),
)
