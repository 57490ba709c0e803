"""Makes the price catalogue from the published data set genai-prices.

Run by `make prices` in a virtual environment of its own. It reads the installed package and
writes the catalogue's text, one model a line, whose form `prices/catalogue.go` documents. It
refuses to write a price that fell to zero or moved more than three times unless it is named
with --accept PROVIDER/ID.
"""

import argparse
import collections
import decimal
import importlib.metadata
import pathlib
import re
import sys

from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd, ClauseContains, ClauseEquals, ClauseOr, ClauseRegex, ClauseStartsWith,
    StartDateConstraint, TieredPrices,
)

# The data set's price keys, and their names in the catalogue. A price of any other key (audio by the
# hour, a page, an image) belongs to usage that the server does not take; it is left out.
KEYS = {
    "input_mtok": "in",
    "output_mtok": "out",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "write",
    "cache_write_1h_mtok": "write1h",
    "output_reasoning_mtok": "reasoning",
}
# A request for a thousand calls.
PER_CALL = "requests_kcount"

# The data set's request contexts, and the service tiers of the server's API.
TIERS = {
    ("processing", "batch"): "batch",
    ("service_tier", "default"): "default",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}

# What gateways and client libraries call a provider. The data set's own rules recognise each of them.
ALIASES = {
    "aws": ["bedrock"],
    "google": ["gemini", "vertex_ai"],
    "together": ["together_ai"],
    "x-ai": ["xai"],
}

# Rules that claim dated snapshots, and the forms of snapshots' names that they claim: # is a date
# (20250929), ## one with signs (2025-09-29), -0 a version of three digits.
DATED = [
    (re.compile(r"^\^(?P<base>.+)-\\d\{8\}\$$"), ["-#"]),
    (re.compile(r"^\^(?P<base>.+)\[-@\]\\d\{8\}\$$"), ["-#", "@#"]),
    (re.compile(r"^\^(?P<base>.+)-\\d\{4\}-\\d\{2\}-\\d\{2\}\$$"), ["-##"]),
]
BEGINNINGS = [
    (re.compile(r"^(?P<base>.+)-20\d\d-?$"), ["-#", "-##"]),
    (re.compile(r"^(?P<base>.+)@$"), ["@#"]),
    (re.compile(r"^(?P<base>.+)-0$"), ["-0"]),
    (re.compile(r"^(?P<base>.+)-$"), ["-#", "-##"]),
    (re.compile(r"^(?P<base>.+)$"), ["*"]),  # any of them
]


def number(value):
    """Writes a decimal without an exponent or trailing zeros."""
    text = format(value.quantize(decimal.Decimal("0.000001")), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(value):
    """Writes a price in USD per million tokens, with its tiers: 1.25/200000:2.5."""
    if isinstance(value, TieredPrices):
        tiers = "".join(f"/{tier.start}:{number(tier.price)}" for tier in value.tiers)
        return number(value.base) + tiers
    return number(value)


def amounts(prices):
    """Lists a price's classes, or nothing where it has none that the server knows."""
    found = {key: value for key, value in vars(prices).items() if value is not None}
    parts = [f"{name}={amount(found[key])}" for key, name in KEYS.items() if key in found]
    if PER_CALL in found:
        parts.append(f"call={number(found[PER_CALL] / 1000)}")
    return " ".join(parts)


def condition(constraint):
    """Writes when a price holds: from a date, or at a time of each day, both UTC."""
    if constraint is None:
        return ""
    if isinstance(constraint, StartDateConstraint):
        return f"{constraint.start_date.isoformat()} "
    return f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M} "


def terms(model):
    """Lists the prices of a model, in the data set's order: the last that holds wins."""
    prices = model.prices if isinstance(model.prices, list) else None
    if prices is None:
        listed = [amounts(model.prices)]
    else:
        listed = [condition(p.constraint) + amounts(p.prices) for p in prices]
    if not amounts(model.prices if prices is None else prices[0].prices):
        return []
    for variant in model.price_variants or []:
        contexts = [TIERS.get(pair) for pair in variant.when.items()]
        changed = amounts(variant.prices)
        if len(contexts) == 1 and contexts[0] and changed:
            listed.append(f"@{contexts[0]} {condition(variant.constraint)}{changed}")
    return listed


def leaves(clause):
    """Walks the alternatives of a rule; a conjunction is none."""
    if isinstance(clause, ClauseOr):
        for one in clause.or_:
            yield from leaves(one)
    elif not isinstance(clause, ClauseAnd):
        yield clause


def names(model):
    """Returns the names that a model is called by; those of snapshots end in a form.

    A rule that says "starts with" or "contains" would also claim names of models that do not exist
    yet. Only a snapshot's date or version may follow it here.
    """
    found = {model.id.lower()}
    for clause in leaves(model.match):
        if isinstance(clause, ClauseEquals):
            found.add(clause.equals.lower())
        elif isinstance(clause, (ClauseStartsWith, ClauseContains)):
            text = next(iter(vars(clause).values())).lower()
            base, forms = next((m["base"], forms) for rule, forms in BEGINNINGS if (m := rule.match(text)))
            found |= {base + form for form in forms}
            if model.is_match(text) and base == text:
                found.add(text)
        elif isinstance(clause, ClauseRegex):
            for rule, forms in DATED:
                if m := rule.match(clause.regex):
                    found |= {m["base"].replace("\\", "").lower() + form for form in forms}
    return found


# Bedrock's names: a region, the vendor, the model.
BEDROCK = re.compile(r"^((global|us|eu|apac|au|jp|in|ca|us-gov)\.)?[a-z]+\.[a-z]")


def owner(name, claims):
    """Decides whose a bare name is, or returns None: a neighbour's price is worse than none."""
    if BEDROCK.match(name) and (bedrock := [model for provider, model in claims if provider.id == "aws"]):
        return bedrock[0]
    for provider in providers:
        if provider.model_match is not None and provider.model_match.is_match(name):
            return next((model for other, model in claims if other is provider), None)
    if len({tuple(terms(model)) for _, model in claims}) == 1:
        return claims[0][1]
    return None


def catalogue():
    """Makes the catalogue's lines."""
    version = importlib.metadata.version("genai-prices")
    digest = re.search(r"sha256:([0-9a-f]{64})", pathlib.Path(__file__).with_name("requirements.txt").read_text())[1]
    yield f"version genai-prices {version} {digest}"
    kept, bare = [], collections.defaultdict(list)
    for provider in providers:
        taken = set()
        for model in provider.models:
            if not terms(model):
                continue
            called = names(model) - taken
            if not called:
                continue
            taken |= called
            kept.append((provider, model, called))
            for name in called:
                bare[name].append((provider, model))
    owners = {name: owner(name, claims) for name, claims in bare.items()}
    last = None
    for provider, model, called in kept:
        if provider is not last:
            known = ALIASES.get(provider.id, [])
            assert all(provider.provider_match.is_match(name) for name in known), provider.id
            fallback = provider.fallback_model_providers or []
            yield f"provider {provider.id}\t{provider.name}\t{' '.join(known)}\t{' '.join(fallback)}".rstrip()
            last = provider
        ordered = sorted(called, key=lambda name: (name != model.id.lower(), name))
        line = " ".join(name if owners[name] is model else "/" + name for name in ordered)
        assert not re.search(r"\s", "".join(called)), called
        yield line + "\t" + "; ".join(terms(model))


def standing(text):
    """Reads the first prices of each model of a catalogue, to compare with."""
    found, provider = {}, ""
    for line in text.splitlines():
        if line.startswith("provider "):
            provider = line.split()[1]
        elif "=" in line:
            called, prices = line.split("\t")
            first = prices.split(";")[0]
            name = called.split()[0].lstrip("/")
            found[f"{provider}/{name}"] = dict(re.findall(r"(\w+)=([\d.]+)", first))
    return found


def jumps(old, new):
    """Lists the prices that fell to zero or moved more than three times."""
    before, after = standing(old), standing(new)
    for name in before.keys() & after.keys():
        for key in before[name].keys() & after[name].keys():
            was, now = float(before[name][key]), float(after[name][key])
            if was > 0 and (now == 0 or not 1 / 3 <= now / was <= 3):
                yield name, f"{name} {key}: {was} -> {now}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path, help="the catalogue's text")
    parser.add_argument("--accept", action="append", default=[], metavar="PROVIDER/ID")
    options = parser.parse_args()
    text = "\n".join(catalogue()) + "\n"
    old = options.file.read_text() if options.file.exists() else ""
    refused = [told for name, told in jumps(old, text) if name not in options.accept]
    if refused:
        sys.exit("These prices moved a lot. Name each with --accept once it is checked:\n" + "\n".join(refused))
    options.file.write_text(text)
    print(f"{options.file}: {text.count(chr(10)) - 1} lines, {len(text)} bytes")


if __name__ == "__main__":
    main()
