"""Compares the catalogue's costs and names with the data set's own package, to the last digit."""

import datetime
import decimal
import functools
import json
import pathlib
import random
import subprocess

from genai_prices.data import providers
from genai_prices.types import Usage

import make

HERE = pathlib.Path(__file__).parent
SEED = 20261130

# Names of models that the data set prices by something that the server is not told of: the hour
# of audio, the page, the image. They are not in the catalogue.
UNCOUNTED = {f"{p.id}/{m.id}".lower() for p in providers for m in p.models if not make.terms(m)}


def finest(model):
    """Tells the decimals of a model's finest price for a million tokens."""
    prices = [p.prices for p in model.prices] if isinstance(model.prices, list) else [model.prices]
    prices += [v.prices for v in model.price_variants or []]
    values = [v for p in prices for key, v in vars(p).items() if key in make.KEYS and v is not None]
    values = [d for v in values for d in ([v.base, *(t.price for t in v.tiers)] if hasattr(v, "tiers") else [v])]
    return max((-v.normalize().as_tuple().exponent for v in values), default=0)


# The differences, explained: prices that the data set has divided (a third of a cent) and that are
# finer than the pico-dollar a token in which the server keeps prices. They are rounded to it, so
# each token is half a pico-dollar off at most.
ROUNDED = {f"{p.id}/{m.id}" for p in providers for m in p.models if finest(m) > 6}


def allowed(name, q):
    tokens = q["prompt"] + q["completion"] if name in ROUNDED else 0
    return decimal.Decimal(tokens) / 2 * decimal.Decimal("1e-12") + (decimal.Decimal("1e-9") if tokens else 0)


def ask(questions):
    """Asks our arithmetic."""
    lines = "".join(json.dumps(q) + "\n" for q in questions)
    run = subprocess.run(["go", "run", "./cost"], cwd=HERE, input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def reference(provider, model, q):
    """Asks the data set's, and rounds up to the nano-dollar as the ledger does."""
    counts = {"input_tokens": q["prompt"], "cache_read_tokens": q["cached"], "cache_write_tokens": q["write"],
              "cache_write_1h_tokens": q["write1h"], "output_tokens": q["completion"],
              "output_reasoning_tokens": q["reasoning"]}
    context = next((dict([pair]) for pair, tier in make.TIERS.items()
                    if tier == q["tier"] and any(v.when == dict([pair]) for v in model.price_variants or [])), None)
    price = model.calc_price(Usage(**counts), provider, price_context=context,
                             genai_request_timestamp=datetime.datetime.fromisoformat(q["at"])).total_price
    return price.quantize(decimal.Decimal("1e-9"), rounding=decimal.ROUND_CEILING)


def question(rng, name):
    cached, write = rng.choice([0, 0, rng.randrange(10**6)]), rng.choice([0, 0, rng.randrange(10**5)])
    reasoning = rng.choice([0, rng.randrange(10**4)])
    at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=rng.randrange(3 * 365 * 86400))
    return {
        "model": name, "tier": rng.choice(["", "", "batch", "flex", "priority", "fast"]), "at": at.isoformat(),
        "prompt": rng.randrange(10 ** rng.randrange(1, 7)) + cached + write, "cached": cached, "write": write,
        "write1h": rng.choice([0, write]), "completion": rng.randrange(10**5) + reasoning, "reasoning": reasoning,
    }


def compare(pairs, seed):
    rng = random.Random(seed)
    asked = [question(rng, f"{p.id}/{m.id}") for p, m in pairs]
    wrong = []
    for (provider, model), q, a in zip(pairs, asked, ask(asked), strict=True):
        want = reference(provider, model, q)
        if abs(decimal.Decimal(a.get("cost", "-1")) - want) > allowed(f"{provider.id}/{model.id}", q):
            wrong.append(f"{q} costs {a}, want {want}")
    assert not wrong, "\n".join(wrong[:20])


@functools.cache
def listed():
    """Lists the models that a name alone leads to: the first of a provider with it."""
    return [(p, m) for p in providers for m in p.models
            if f"{p.id}/{m.id}".lower() not in UNCOUNTED and p.find_model(m.id) is m]


def test_2000_random_calls_cost_the_same():
    rng = random.Random(SEED)
    compare([rng.choice(listed()) for _ in range(2000)], SEED)


def test_a_sample_of_50_models_of_8_providers_costs_the_same():
    sample = []
    for provider, most in {"openai": 10, "anthropic": 10, "google": 8, "aws": 8, "mistral": 5, "deepseek": 3, "x-ai": 3,
                           "cohere": 3}.items():
        models = [(p, m) for p, m in listed() if p.id == provider]
        sample += random.Random(SEED).sample(models, most)
    assert len(sample) == 50
    compare(sample * 10, SEED + 1)


def test_a_name_leads_only_where_the_data_set_leads_too():
    """Every id and alias, and each with something behind it, finds the data set's own entry or none."""
    rng, asked = random.Random(SEED), []
    for p, m in listed():
        name = rng.choice([m.id, *sorted(make.names(m))]).rstrip("*#@-")
        edits = ["-20250929", "-2025-09-29", "-latest", "@20250929", "-v1:0", rng.choice("abc123-:.")]
        asked += [(p, name), (p, name + rng.choice(edits))]
    answers = ask([question(rng, f"{p.id}/{name}") for p, name in asked])
    wrong = []
    for (provider, name), a in zip(asked, answers, strict=True):
        if not a:
            continue
        found = provider.find_model(name, all_providers=providers)
        sellers = [provider.id, *(provider.fallback_model_providers or [])]
        if found is None or a["entry"] not in {f"{s}/{found.id}".lower() for s in sellers}:
            wrong.append(f"{provider.id}/{name} finds {a['entry']}, the data set finds {found and found.id}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:40])


def test_few_prices_are_rounded():
    assert 0 < len(ROUNDED) < 30, ROUNDED


def test_the_catalogue_is_what_the_program_makes():
    text = (HERE.parent / "embed" / "catalogue" / "catalogue.txt").read_text()
    assert text == "\n".join(make.catalogue()) + "\n", "run `make prices`"


def test_prices_that_jump_are_refused():
    old = "provider p\tP\na\tin=1 out=2\nb\tin=1\n"
    assert [name for name, _ in make.jumps(old, old)] == []
    told = dict(make.jumps(old, "provider p\tP\na\tin=0 out=2.5\nb\tin=3.1\n"))
    assert told == {"p/a": "p/a in: 1.0 -> 0.0", "p/b": "p/b in: 1.0 -> 3.1"}
