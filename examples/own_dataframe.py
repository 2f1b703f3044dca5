"""Tune on a pandas DataFrame and classify new texts: `python examples/own_dataframe.py [MODEL]`."""

import sys

import pandas as pd

import bertgrid_tf as bg

MODEL = sys.argv[1] if len(sys.argv) > 1 else "bert-base-cased"

frame = pd.DataFrame(
    {
        "review": [f"{opinion} {thing}" for thing in ("film", "plot", "song", "cast") for opinion in ("great", "dull")]
        * 10,
        "sentiment": ["positive", "negative"] * 40,
    }
)

if __name__ == "__main__":
    study = bg.tune(
        train=frame,
        text="review",
        label="sentiment",
        study="reviews",
        model=MODEL,
        final_model=MODEL,
        sweeps={"batch_size": [8, 16]},
        learning_rates=[1e-4, 3e-5],
        epochs=2,
    )
    print(study.grid)
    print(study.predict(["a great song", "the plot was dull"]))
    print(f"The report: {study.report()}")
