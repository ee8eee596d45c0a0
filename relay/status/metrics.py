"""/metrics: the numbers for Prometheus, in its text format (https://prometheus.io/docs/instrumenting/exposition_formats).

Base units, `_total` for what only grows, and few labels: nothing that a stranger chooses.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from relay.status.histogram import Histogram

KIND = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Asks for the numbers when they are scraped: counting costs nothing in between.

    Args:
        numbers: called at each scrape.
    """

    def __init__(self, numbers: Callable[[], Iterable[Metric]]) -> None:
        self._numbers = numbers
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        yield from self._numbers()

    def text(self) -> str:
        """What a scrape is answered with."""
        return generate_latest(self._registry).decode()


def gauge(name: str, about: str, value: float) -> Metric:
    """A number that goes up and down."""
    return GaugeMetricFamily(f"relay_{name}", about, value=value)


def counter(name: str, about: str, value: float) -> Metric:
    """A number that only grows, while the process lives; `_total` is added to its name."""
    return CounterMetricFamily(f"relay_{name}", about, value=value)


def labelled(name: str, about: str, labels: Sequence[str], found: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """A counter for each of the labels' values, which must be few."""
    family = CounterMetricFamily(f"relay_{name}", about, labels=labels)
    for values, value in found:
        family.add_metric(values, value)
    return family


def build(version: str, **labels: str) -> Metric:
    """What it is: a constant 1 with labels."""
    return InfoMetricFamily("relay_build", "The version at work, and what for.", value={"version": version, **labels})


def histogram(name: str, about: str, found: Histogram) -> Metric:
    """How long things took, in seconds."""
    return HistogramMetricFamily(f"relay_{name}", about, buckets=found.buckets(), sum_value=found.sum)
