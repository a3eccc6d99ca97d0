"""Two products of a series of readings: their statistics, then the readings that stand out."""

import pandas as pd

from batuta.pipeline import Context, Output, Pipeline

pipeline = Pipeline("hello_pipeline")


@pipeline.product("STATISTICS", inputs=["READINGS"], max_attempts=2)
def statistics(context: Context) -> Output:
    """Count, mean, scatter and quartiles, as JSON."""
    values = pd.read_csv(context.input("READINGS"))["value"]
    path = context.output_path("statistics.json")
    values.describe().to_json(path)
    return Output(path, metadata={"mean": values.mean()})


@pipeline.product("OUTLIERS", inputs=["READINGS", "STATISTICS"], max_attempts=2)
def outliers(context: Context) -> Output:
    """The readings further than 3 standard deviations from the mean, as CSV."""
    readings = pd.read_csv(context.input("READINGS"))
    known = pd.read_json(context.input("STATISTICS"), typ="series")
    path = context.output_path("outliers.csv")
    readings[(readings["value"] - known["mean"]).abs() > 3 * known["std"]].to_csv(path, index=False)
    return Output(path)
