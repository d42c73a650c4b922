"""The page: one file that needs nothing but itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from familyseer.duration import format_duration
from familyseer.report import _cards as cards
from familyseer.report import _facts as facts
from familyseer.report._figures import figures
from familyseer.report._html import add, folded, page, pairs, table, tag
from familyseer.report._plot import Chart, Figure
from familyseer.report._read import RunData
from familyseer.report._style import STYLE
from familyseer.report._svg import COLOURS, draw
from familyseer.units import format_count, format_latency

# nothing is loaded, nothing runs, whatever a name or a reason holds
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_NO_FIGURE = {
    "latency": "Latency over time is not shown: not every subgraph had a measured schedule.",
    "time": "Where the time went is not shown: the run was not finished.",
    "accuracy": "The accuracy of the cost models is not shown: none had ranked enough candidates.",
    "roofline": "The roofline is not shown: no schedule of a subgraph that computes is known.",
}
_WHERE_ELSE = {"latency": "history.csv", "accuracy": "tuning/accuracy.csv"}


def render(data: RunData) -> str:
    """The page as text; the same for the same `data`."""
    title = f"{_model(data)} tuned by FamilySeer"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # a browser would ask the server for an icon
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", STYLE),
    ]
    sections = [
        ("plots", "Plots", [_plots(data)]),
        ("families", "Families", list(cards.families(data))),
        ("schedules", "Best schedules", list(cards.schedules(data))),
        ("failures", "Failures and doubts", list(cards.failures(data))),
        ("environment", "Environment", list(_environment(data))),
        ("use", "Using the library", list(_use(data))),
    ]
    links = [tag("li", tag("a", words, href=f"#{key}")) for key, words, _ in sections]
    main = tag("main", *_missing(data), _summary(data))
    for key, words, inside in sections:
        add(main, tag("section", tag("h2", words, id=key), *inside, aria_labelledby=key))
    top = tag("header", *_top(data), tag("nav", tag("ul", *links), aria_label="Sections"))
    return page(head, [top, main, tag("footer", tag("p", _made_by(data), class_="soft"))])


def _model(data: RunData) -> str:
    found = facts.text(data.summary, "model", facts.SHORT)
    return found or facts.text(data.state, "model", facts.SHORT) or data.name


def _top(data: RunData) -> Iterator[Element]:
    yield tag("h1", _model(data))
    asked = _asked(data)
    yield tag("p", ", ".join(part for part in (_target(data), asked) if part), class_="soft")
    untuned, tuned = (facts.positive(data.summary, n) for n in ("untuned_us", "tuned_us"))
    line = tag("p", class_="headline")
    if untuned and tuned:
        ratio = untuned / tuned
        words = f"{ratio:.2f}x faster" if ratio >= 1 else f"{1 / ratio:.2f}x slower"
        add(
            line,
            tag("strong", words, class_=None if ratio >= 1 else "slower"),
            tag("br"),
            f"{format_latency(untuned)} untuned, {format_latency(tuned)} tuned, whole model",
        )
        if "tuned_us" in data.compared:
            compared = facts.positive(data.compared, "tuned_us")
            add(line, f"; {format_latency(compared)} tuned when compared with other tuners")
    elif untuned:
        add(line, f"{format_latency(untuned)} untuned; the tuned model was not measured")
    else:
        add(line, "No measured latencies of the whole model.")
    yield line


def _asked(data: RunData) -> str:
    budget, trials = (facts.positive(data.summary, n) for n in ("budget_s", "trial_limit"))
    asked = [f"{format_duration(budget)} budget"] if budget else []
    asked += [f"{int(trials)} trials at most"] if trials else []
    return ", ".join(asked)


def _target(data: RunData) -> str:
    """The target in a few words, as `familyseer.target.describe_target`, which needs TVM."""
    written = facts.text(data.summary, "target", 4000) or facts.text(data.state, "target", 4000)
    try:
        target = json.loads(written)
    except (ValueError, RecursionError):
        return facts.shown(written, facts.SHORT)
    parts = [facts.text(target, name, facts.SHORT) for name in ("kind", "mcpu", "arch")]
    cores = facts.count(target, "num-cores")
    words = " ".join(part for part in parts if part)
    return f"{words}, {format_count(cores, 'core')}" if cores else words


def _missing(data: RunData) -> Iterator[Element]:
    if not data.missing:
        return
    lines = [tag("li", line) for line in data.missing]
    yield tag(
        "div",
        tag("p", "Not all of the run is there; what follows leaves this out:"),
        tag("ul", *lines),
        class_="wanting",
    )


def _summary(data: RunData) -> Element:
    found = data.summary
    # of a run that was killed, what its state says
    elapsed = facts.positive(found, "elapsed_s") or facts.positive(data.state, "elapsed_s")
    before = facts.positive(found, "elapsed_before_s")
    trials = facts.count(found, "trials") or facts.count(data.state, "trials")
    failed = facts.count(found, "build_errors") + facts.count(found, "run_errors")
    subgraphs, covered = facts.count(found, "subgraphs"), facts.count(found, "covered")
    error = facts.number(found, "max_rel_error")
    precision = facts.mapping(found, "precision")
    return pairs(
        [
            ("target", _target(data)),
            ("asked for", _asked(data)),
            ("took", format_duration(elapsed) if elapsed else ""),
            ("earlier runs here", format_duration(before) if before else ""),
            ("ended by", facts.text(found, "stopped_by", facts.SHORT)),
            ("candidates measured", f"{trials} ({failed} failed)" if failed else str(trials)),
            ("subgraphs tuned", f"{covered} of {subgraphs}" if subgraphs else ""),
            ("families by", data.method),
            ("largest relative error", f"{error:.2g}" if error is not None else ""),
            ("against ONNX Runtime", _onnxruntime(found)),
            ("precision", facts.text(precision, "precision", facts.SHORT)),
            ("SpAMM", _spamm(facts.mapping(found, "spamm"))),
            ("without", ", ".join(facts.shown(str(w), 40) for w in facts.items(found, "without"))),
        ]
    )


def _spamm(told: dict[str, Any]) -> str:
    layers = facts.items(told, "layers")
    if not layers:
        return facts.text(told, "note")
    error, allowed = facts.number(told, "max_rel_error"), facts.number(told, "allowed")
    words = format_count(len(layers), "layer")
    if error is None or allowed is None:
        return words
    return f"{words}, off by {error:.2g} of the dense model, {allowed:.2g} allowed"


def _onnxruntime(found: dict[str, Any]) -> str:
    error = facts.number(found, "max_rel_error_onnxruntime")
    if error is not None:
        return f"{error:.2g}"
    # why is told among the doubts, where there is room for what a library says when it fails
    return "not compared" if facts.text(found, "onnxruntime") else ""


def _plots(data: RunData) -> Element:
    made = figures(data)
    drawn = [tag("div", *map(_figure, made), class_="figures")] if made else []
    known = {figure.key for figure in made}
    words = [words for key, words in _NO_FIGURE.items() if key not in known]
    return tag("div", *drawn, *(tag("p", line, class_="soft") for line in words))


def _figure(figure: Figure) -> Element:
    legend = None
    if isinstance(figure.plot, Chart):
        named = [series for series in figure.plot.series if series.name]
        swatches = [
            tag(
                "li",
                tag("span", class_=f"swatch {s.kind} c{s.colour % COLOURS}", aria_hidden="true"),
                tag("span", s.name),
            )
            for s in named
        ]
        legend = tag("ul", *swatches, class_="legend")
    unit = tag("p", f"Upwards: {figure.plot.y.label}") if isinstance(figure.plot, Chart) else None
    where = _WHERE_ELSE.get(figure.key, "families.json")
    return tag(
        "figure",
        tag("h3", figure.title),
        tag("figcaption", unit),
        draw(figure),
        legend,
        tag("div", *(tag("p", note, class_="soft") for note in figure.notes if note)),
        folded("Data", table(figure.table, figure.title, where_else=where)),
    )


def _environment(data: RunData) -> Iterator[Element]:
    machine = data.machine
    known = []
    if machine is not None:
        known = [
            ("processor", facts.shown(machine.cpu, facts.SHORT)),
            ("cores used", str(machine.cores)),
            ("memory", f"{machine.memory_bytes / 2**30:.3g} GiB"),
            ("system", facts.shown(machine.system, facts.SHORT)),
        ]
    versions = facts.mapping(data.summary, "versions")
    known += [(facts.shown(n, 40), facts.text(versions, n, 40)) for n in list(versions)[:40]]
    known.append(("seed", facts.text(data.summary, "seed", 40)))
    yield pairs(known)
    for gpu in facts.items(data.summary, "gpus")[:64]:
        words = [facts.text(gpu, name, facts.SHORT) for name in ("model", "arch")]
        timed = format_count(facts.count(gpu, "timed"), "candidate")
        yield tag("p", f"GPU {' '.join(words)}: {timed} timed.")
    for device in facts.items(facts.mapping(data.summary, "fleet"), "devices")[:64]:
        yield tag("p", f"Device {_listed(device)}.")
    for earlier in facts.items(data.summary, "warm_start")[:64]:
        yield tag("p", f"Started from an earlier run: {_listed(earlier)}.")
    target = facts.text(data.summary, "target", 4000)
    if target:
        yield folded("Target as TVM has it", tag("pre", tag("code", target)))


def _listed(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    found = ((facts.shown(str(name), 40), facts.text(value, name, facts.SHORT)) for name in value)
    return ", ".join(f"{name} {text}" for name, text in list(found)[:20] if text)


def _use(data: RunData) -> Iterator[Element]:
    folder = shlex.quote(data.name)
    yield tag("p", "On the command line, beside the folder of this run:")
    commands = f"familyseer run {folder} -i in.npz -o out.npz\nfamilyseer bench {folder}"
    yield tag("pre", tag("code", commands))
    device = facts.text(data.summary, "device", 20)
    if not device.isidentifier():
        return
    made = [
        f"    np.zeros({tuple(shape)!r}, {facts.text(spec, 'dtype', 20)!r}),"
        f"  # {facts.text(spec, 'name', 60)}"
        for spec in facts.items(data.summary, "inputs")[:20]
        if _is_shape(shape := facts.items(spec, "shape"))
    ]
    yield tag("p", "In Python, with plain TVM:")
    code = [
        "import numpy as np",
        "import tvm",
        "from tvm import relax",
        "",
        f"device = tvm.{device}()",
        f"library = tvm.runtime.load_module({data.name + '/model.so'!r})",
        'main = relax.VirtualMachine(library, device)["main"]',
        "inputs = [",
        *made,
        "]",
        "outputs = main(*(tvm.runtime.tensor(array, device) for array in inputs))",
    ]
    yield tag("pre", tag("code", "\n".join(code)))


def _is_shape(shape: list[Any]) -> bool:
    return len(shape) <= 32 and all(type(e) is int for e in shape)


def _made_by(data: RunData) -> str:
    version = facts.text(facts.mapping(data.summary, "versions"), "familyseer", 40)
    return f"Written by FamilySeer {version}.".replace(" .", ".")
