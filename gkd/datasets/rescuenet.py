"""RescueNet: streets and houses from the air after a hurricane, target of the Potsdam sources.

Its 11 ids become the five classes of the label space "rescue". How the published experiments grouped them is not
known; this grouping is our own (gkd/data/labels/rescuenet.csv).
"""

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place

RESCUENET = Layout(
    name="rescuenet",
    folder="rescuenet",
    label_space="rescue",
    splits={
        split: (Place(f"{split}/{split}-org-img", (".jpg",), f"{split}/{split}-label-img", "_lab.png", "rescuenet"),)
        for split in ("train", "val", "test")
    },
    about=About(
        url="https://github.com/BinaLab/RescueNet-A-High-Resolution-Post-Disaster-UAV-Dataset-for-Semantic-Segmentation"
        " (figshare collection 6647354)",
        licence="unclear: the repository says CC BY-NC-ND 4.0, copies on figshare say CC BY 4.0",
        size="3,595 train, 449 val and 450 test images of 4000x3000",
        tree="{train,val,test}/{train,val,test}-org-img/<id>.jpg\n"
        "{train,val,test}/{train,val,test}-label-img/<id>_lab.png (ids 0..10)",
    ),
)
