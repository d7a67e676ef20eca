"""Files that are wrong, each in one way or as its name says; the messages are in bad_files.golden."""

SITE = """kind: estate
operator: {name: op, country: NO, zone: Europe/Oslo, currency: NOK}
sites:
  - name: glomfjord
    country: NO
    zone: Europe/Oslo
    energy: {carbon: 8, price: 0.45, currency: NOK}
    connection: {firm: 40MW, flexible: 10MW}
    pue: 1.1
    power:
      - {name: feed-a, kind: feed, rating: 20MW}
    blocks:
      - name: block-1
        fed_by: feed-a
        delivered: 2025-01-01
        commissioned: 2025-02-01
        groups:
          - {name: g, hardware: h100-8, racks: 2, nodes_per_rack: 4}
"""
WORK = """kind: workload
name: train
type: job
project: research
nodes: 2
resources: {gpu: H100:8, cpu: 4, memory: 8GB}
commands: [python train.py]
"""
PLAN = "kind: price-plan\nname: p\ncurrency: NOK\n"
CONTRACT = "kind: contract\nname: c\ntenant: t\nplan: p\n"
TENANT = "kind: tenant\nname: t\nprojects: [a]\n"
RESERVATION = """kind: reservation
name: r
tenant: t
site: s
gpu: H100
nodes: 16
from: 2026-12-01T08:00:00+01:00
until: 2026-12-08T08:00:00+01:00
"""
MAINTENANCE = """kind: maintenance
name: m
site: s
parts: [s/block-1]
from: 2026-12-01T08:00:00Z
until: 2026-12-01T12:00:00Z
reason: pumps
"""
HARDWARE = """hardware:
  - {name: x, accelerator: X1, accelerators: 8, nameplate: 1kW, idle: 2kW, cpu: 8, memory: 64GB,
     accelerator_power: 500W, accelerator_idle: 50W}
"""


def site(old: str, new: str) -> str:
    """The estate with one thing changed, which must be there."""
    return changed(SITE, old, new)


def two_sides(old: str, new: str) -> str:
    """The estate with its block on two sides, and one thing changed."""
    more = "      - {name: feed-b, kind: feed, rating: 20MW}\n    blocks:"
    made = site("        fed_by: feed-a\n", "        fed_by: [feed-a, feed-b]\n        redundancy: 2N\n")
    return changed(made.replace("    blocks:", more), old, new)


def curve(old: str, new: str) -> str:
    """The estate with a curve for its PUE, and one thing changed."""
    points = [f"{{load: {load}, outdoor_c: {at}, pue: {pue}}}" for load, at, pue in CURVE]
    made = site("pue: 1.1", f"pue: {{design_outdoor_c: 30, points: [{', '.join(points)}]}}")
    return changed(made, old, new)


CURVE = ((0.5, 10, 1.2), (0.5, 30, 1.3), (1, 10, 1.1), (1, 30, 1.15))


def work(new: str, old: str = "nodes: 2") -> str:
    """The workload with one thing changed, which must be there."""
    return changed(WORK, old, new)


def changed(text: str, old: str, new: str) -> str:
    """``text`` with ``old``, which must be in it, replaced."""
    if old not in text:
        raise AssertionError(f"{old!r} is not in the text")
    return text.replace(old, new)


BAD_FILES: dict[str, str | bytes] = {
    "not UTF-8": b"kind: estate\nname: caf\xe9\n",
    "a control character": b"kind: estate\nname: \x00\n",
    "YAML syntax": "kind: estate\nsites: [a, b\n",
    "a tab for indentation": "kind: estate\noperator:\n\tname: x\n",
    "an empty file": "# nothing\n",
    "a list for a document": "- a\n",
    "no kind": "name: x\n",
    "an unknown kind": "kind: estat\n",
    "a key twice": site("    pue: 1.1\n", "    pue: 1.1\n    pue: 1.2\n"),
    "a key that is a number": "kind: tenant\nname: a\n4: b\n",
    "a key that is a list": "kind: tenant\n[a, b]: c\n",
    "a merge key": "kind: tenant\n<<: {name: a}\n",
    "a tag": "kind: !!python/object:os.system x\n",
    "a private tag": "kind: !secret x\n",
    "an unknown field": site("    pue: 1.1", "    peu: 1.1"),
    "an unknown field deep down": site("racks: 2", "rakcs: 2"),
    "a missing unit": site("firm: 40MW", "firm: 40"),
    "a negative power": site("firm: 40MW", "firm: -40MW"),
    "a wrong unit": site("rating: 20MW", "rating: 20MB"),
    "a PUE below one": site("pue: 1.1", "pue: 0.9"),
    "a PUE too fine": site("pue: 1.1", "pue: 1.12345"),
    "a negative price": site("price: 0.45", "price: -0.45"),
    "UK for GB": site("    country: NO", "    country: UK"),
    "an unknown country": site("    country: NO", "    country: XX"),
    "a country's name": site("    country: NO", "    country: Norway"),
    "an unknown zone": site("    zone: Europe/Oslo", "    zone: Europe/Olso"),
    "a currency in small letters": site("currency: NOK}\n    conn", "currency: nok}\n    conn"),
    "unknown hardware": site("hardware: h100-8", "hardware: h100-9"),
    "accelerators of one model with two engines": site(
        "racks: 2, nodes_per_rack: 4}\n",
        "racks: 2, nodes_per_rack: 4}\n      - name: block-2\n        fed_by: feed-a\n        engine: slurm\n"
        "        groups: [{name: g, hardware: h200-8}, {name: i, hardware: h100-8}]\n",
    ),
    "several accelerators of a mining machine": site(
        "sites:", HARDWARE.replace("idle: 2kW", "idle: 100W, efficiency: 30 J/TH") + "sites:"
    ),
    "an efficiency in another unit": site(
        "sites:", HARDWARE.replace("idle: 2kW", "idle: 100W, efficiency: 30 W/TH") + "sites:"
    ),
    "no racks": site("racks: 2", "racks: 0"),
    "more nodes than places": site("racks: 2", "nodes: 20, racks: 2"),
    "two groups of one name": site(
        "nodes_per_rack: 4}", "nodes_per_rack: 4}\n          - {name: g, hardware: h100-8}"
    ),
    "two sites of one name": SITE + SITE[SITE.index("  - name") :],
    "a block called like a feed": site("name: block-1", "name: feed-a"),
    "an unknown feeder": site("        fed_by: feed-a", "        fed_by: feed-b"),
    "a cycle in the power tree": site(
        "rating: 20MW}",
        "rating: 20MW, fed_by: ups-1}\n      - {name: ups-1, kind: ups, rating: 20MW, fed_by: feed-a}",
    ),
    "fed by itself": site("rating: 20MW}", "rating: 20MW, fed_by: feed-a}"),
    "fed by itself among others": two_sides("[feed-a, feed-b]", "feed-a").replace(
        "feed-a, kind: feed, rating: 20MW", "feed-a, kind: feed, rating: 20MW, fed_by: [feed-a, feed-b]"
    ),
    "a cycle through one of several feeders": two_sides(
        "feed-b, kind: feed, rating: 20MW}", "feed-b, kind: feed, rating: 20MW, fed_by: [feed-a, ups-1]}"
    ).replace("    blocks:", "      - {name: ups-1, kind: ups, rating: 9MW, fed_by: feed-b}\n    blocks:"),
    "an unknown feeder among several": two_sides("[feed-a, feed-b]", "[feed-a, feed-c]"),
    "a feeder twice": two_sides("[feed-a, feed-b]", "[feed-a, feed-b, feed-a]"),
    "no feeders": two_sides("[feed-a, feed-b]", "[]"),
    "too many feeders": two_sides("[feed-a, feed-b]", f"[{', '.join(f'x{n}' for n in range(9))}]"),
    "two sides that share a transformer": two_sides("rating: 20MW}", "rating: 20MW, fed_by: t-1}").replace(
        "    power:\n", "    power:\n      - {name: t-1, kind: transformer, rating: 40MW}\n"
    ),
    "two sides of which one is missing": two_sides("[feed-a, feed-b]", "feed-a"),
    "a site that claims two sides of a plain tree": site(
        "    pue: 1.1\n", "    pue: 1.1\n    redundancy: 2N\n"
    ),
    "racks with two cords to one busway": two_sides(
        "        fed_by: [feed-a, feed-b]\n        redundancy: 2N\n", ""
    )
    .replace("nodes_per_rack: 4}", "nodes_per_rack: 4, fed_by: [w-1, w-2], redundancy: 2N}")
    .replace(
        "    blocks:",
        "      - {name: w-1, kind: busway, rating: 9MW, fed_by: feed-a}\n"
        "      - {name: w-2, kind: busway, rating: 9MW, fed_by: [feed-a, feed-b]}\n    blocks:",
    ),
    "an unknown redundancy": two_sides("redundancy: 2N", "redundancy: 3N"),
    "distributed over no other": two_sides("redundancy: 2N", "redundancy: distributed"),
    "fed twice over": two_sides("nodes_per_rack: 4}", "nodes_per_rack: 4, fed_by: feed-a}"),
    "a group that nothing feeds": two_sides(
        "        fed_by: [feed-a, feed-b]\n        redundancy: 2N\n", ""
    ).replace(
        "nodes_per_rack: 4}", "nodes_per_rack: 4, fed_by: feed-a}\n          - {name: h, hardware: h100-8}"
    ),
    "a derating above one": site("rating: 20MW}", "rating: 20MW, derate: 1.25}"),
    "a derating of nothing": site("rating: 20MW}", "rating: 20MW, derate: 0}"),
    "a derating in percent": site("rating: 20MW}", "rating: 20MW, derate: 80%}"),
    "a derating without a rating": site(
        "        fed_by: feed-a", "        fed_by: feed-a\n        derate: 0.8"
    ),
    "a rack's derating without a rating": site("nodes_per_rack: 4}", "nodes_per_rack: 4, rack_derate: 0.8}"),
    "windows of no flexible part": site("flexible: 10MW}", "windows: [{days: [sat]}]}"),
    "a window that is none": site(
        "flexible: 10MW}", "flexible: 10MW, windows: [{from: '22:00', until: '22:00'}]}"
    ),
    "a time of the day that is none": site("flexible: 10MW}", "flexible: 10MW, windows: [{from: '25:00'}]}"),
    "an unknown day of the week": site("flexible: 10MW}", "flexible: 10MW, windows: [{days: [sun, satu]}]}"),
    "a ramp without a unit": site("flexible: 10MW}", "flexible: 10MW, ramp_up: 5}"),
    "a curve with a hole": curve(
        "{load: 1, outdoor_c: 10, pue: 1.1}", "{load: 0.9, outdoor_c: 10, pue: 1.1}"
    ),
    "a curve that ends early": curve("load: 1,", "load: 0.9,"),
    "a curve with a point twice": curve(
        "{load: 1, outdoor_c: 10, pue: 1.1}", "{load: 1, outdoor_c: 30, pue: 1.1}"
    ),
    "a curve that falls": curve(
        "{load: 1, outdoor_c: 10, pue: 1.1}", "{load: 1, outdoor_c: 10, pue: 1.0}"
    ).replace("load: 0.5, outdoor_c: 10, pue: 1.2", "load: 0.5, outdoor_c: 10, pue: 2.5"),
    "a curve that does not reach the design temperature": curve(
        "design_outdoor_c: 30", "design_outdoor_c: 35"
    ),
    "a curve without points": site("pue: 1.1", "pue: {design_outdoor_c: 30, points: []}"),
    "a curve of half degrees": curve("design_outdoor_c: 30", "design_outdoor_c: 30.5"),
    "a load above one": curve("load: 1,", "load: 1.2,"),
    "a day that is none": site("delivered: 2025-01-01", "delivered: 2025-02-30"),
    "commissioned before delivered": site("commissioned: 2025-02-01", "commissioned: 2024-12-31"),
    "a name in capitals": site("name: glomfjord", "name: Glom Fjord"),
    "several problems": site("firm: 40MW", "firm: 40").replace(
        "country: NO\n    zone", "country: UK\n    zone"
    ),
    "zero nodes": work("nodes: 0"),
    "nodes that are a text": work("nodes: two"),
    "an unknown type": work("type: jbo", "type: job"),
    "accelerators without a model": work("gpu: 8", "gpu: H100:8"),
    "zero accelerators": work("gpu: H100:0", "gpu: H100:8"),
    "a fraction finer than a thousandth": work("gpu: H100:0.1234", "gpu: H100:8"),
    "a fraction of more than one": work("gpu: H100:2.5", "gpu: H100:8"),
    "a fraction of nothing": work("gpu: H100:0.000", "gpu: H100:8"),
    "any model": work("gpu: any:4", "gpu: H100:8"),
    "an alternative that is wrong": work("gpu: [H100:8, B200:0]", "gpu: H100:8"),
    "an alternative twice": work("gpu: [H100:8, B200:8, h100:8]", "gpu: H100:8"),
    "an alternative part twice": work("gpu: [H100:0.5, H100:0.5]", "gpu: H100:8"),
    "alternatives of other parts": work("gpu: [H100:0.5, B200:0.25]", "gpu: H100:8"),
    "no alternatives": work("gpu: []", "gpu: H100:8"),
    "too many alternatives": work(f"gpu: [{', '.join(f'X{n}' for n in range(9))}]", "gpu: H100:8"),
    "a number of accelerators without a model": work("gpu: '2'", "gpu: H100:8"),
    "accelerators as a mapping": work("gpu: {H100: 8}", "gpu: H100:8"),
    "memory of an accelerator without a unit": work("gpu_memory: 80", "memory: 8GB"),
    "memory of no accelerator": work("gpu_memory: 80GB", "gpu: H100:8"),
    "a cluster with a fraction": work("gpu: H100:0.5", "gpu: H100:8").replace("type: job", "type: cluster"),
    "a range that runs backwards": work("nodes: 16..4"),
    "a range from zero": work("nodes: 0..4"),
    "a range with a hyphen": work("nodes: 4-16"),
    "an elastic cluster": work("type: cluster", "type: job").replace("nodes: 2", "nodes: 2..4"),
    "an elastic filler": work("type: filler", "type: job").replace("nodes: 2", "nodes: 2..4"),
    "an unknown level": work("topology: {pack: rakc}"),
    "a topology of nothing": work("topology: {required: true}"),
    "a topology that is a text": work("topology: rack"),
    "a topology that can't be": work("topology: {pack: rack, spread: pod}"),
    "spread over sites": work("topology: {spread: site}"),
    "required, perhaps": work("topology: {pack: rack, required: perhaps}"),
    "an unknown wish of a topology": work("topology: {packs: rack}"),
    "expected without a unit": work("expected: 2"),
    "expected after its end": work("expected: 3h\nmax_duration: 2h"),
    "a checkpoint that is a text": work("checkpoint: 10m"),
    "a checkpoint that says not how often": work("checkpoint: {restart: 90s}"),
    "a reservation's name that can't be": work("reservation: My Window"),
    "commands that are a text": work("python train.py", "[python train.py]"),
    "no commands": work("", "commands: [python train.py]\n"),
    "no country": work("policy: {countries: []}"),
    "a policy that can't be one": work("policy: nordic only"),
    "a policy of both": work("policy: {profile: public, countries: [NO]}"),
    "a variable of the engine": work("env: {RANK: 1}"),
    "a variable that can't be": work("env: {1A: x}"),
    "a secret that is a list": work("secrets: {TOKEN: [hunter2]}"),
    "a secret in env too": work("env: {TOKEN: x}\nsecrets: {TOKEN: hunter2}"),
    "a port that needs privilege": work("ports: {http: 80}"),
    "a duration without a unit": work("max_duration: 120"),
    "a filler without commands that names nothing to mine with": work("type: filler", "type: job")
    .replace("commands: [python train.py]\n", "")
    .replace("gpu: H100:8, ", ""),
    "a filler without commands and with ports": work(
        "type: filler\nports: {http: auto}", "type: job"
    ).replace("commands: [python train.py]\n", ""),
    "a firm filler": work("type: filler\nflex: firm", "type: job"),
    "too long a grace for preemptible work": work("flex: preemptible\ngrace: 16m"),
    "too long a grace for a filler": work("type: filler\ngrace: 61s", "type: job"),
    "counters without a port": work("counters: llamacpp"),
    "a leased job": work("lease: slurm"),
    "a lease with commands": work("type: cluster\nlease: slurm", "type: job"),
    "a lease with ports that may be paused": work(
        "type: cluster\nlease: slurm\nflex: pausable\nports: {http: auto}", "type: job"
    ),
    "an unknown lease": work("lease: slurn"),
    "priority out of bounds": work("priority: 100000"),
    "a reserved contract of nothing": CONTRACT + "type: reserved\n",
    "a contract that ends first": CONTRACT + "starts: 2026-01-01\nends: 2026-01-01\n",
    "a price finer than money": PLAN + "prices:\n  accelerator_per_hour: {H100: 0.0000001}\n",
    "a plan without prices": PLAN,
    "an unknown kind of token": PLAN + "prices: {tokens_per_million: {inputs: 1}}\n",
    "a tenant without projects": "kind: tenant\nname: t\nprojects: []\n",
    "a tenant whose projects are a text": "kind: tenant\nname: t\nprojects: a\n",
    "a tenant with an empty mapping of projects": "kind: tenant\nname: t\nprojects: {}\n",
    "a project's name that can't be": "kind: tenant\nname: t\nprojects: {A: {}}\n",
    "an unknown field of a project": "kind: tenant\nname: t\nprojects:\n  a: {garanteed: 8}\n",
    "a limit of zero": TENANT + "quota: {limit: 0}\n",
    "a limit below what is guaranteed": TENANT + "quota: {guaranteed: 64, limit: 8}\n",
    "a weight of zero": TENANT + "quota: {weight: 0}\n",
    "projects that are guaranteed more than their tenant": "kind: tenant\nname: t\nquota: {guaranteed: 8}\n"
    "projects: {a: {guaranteed: 6}, b: {guaranteed: 6}}\n",
    "a highest priority out of bounds": TENANT + "max_priority: 1001\n",
    "a preference too fine": TENANT + "preferences: {price: 1.0001}\n",
    "a negative preference": TENANT + "preferences: {carbon_per_kg: -0.08}\n",
    "an unknown preference": TENANT + "preferences: {carbon_per_kgs: 0.08}\n",
    "a reservation without an offset": changed(
        RESERVATION, "from: 2026-12-01T08:00:00+01:00", "from: 2026-12-01T08:00:00"
    ),
    "a reservation from a day": changed(RESERVATION, "from: 2026-12-01T08:00:00+01:00", "from: 2026-12-01"),
    "a reservation at a time that is none": changed(
        RESERVATION, "from: 2026-12-01T08", "from: 2026-12-01T28"
    ),
    "a reservation that ends first": changed(RESERVATION, "until: 2026-12-08", "until: 2026-12-01"),
    "a reservation with starts": changed(RESERVATION, "from: 2026", "starts: 2026"),
    "a reservation with a number of accelerators": changed(RESERVATION, "gpu: H100", "gpu: H100:8"),
    "a reservation of no nodes": changed(RESERVATION, "nodes: 16", "nodes: 0"),
    "maintenance at another site": changed(MAINTENANCE, "[s/block-1]", "[s/block-1, loughton/block-1]"),
    "maintenance of a part without its site": changed(MAINTENANCE, "[s/block-1]", "[block-1]"),
    "maintenance that ends first": changed(MAINTENANCE, "until: 2026-12-01T12", "until: 2026-12-01T07"),
    "no racks on the same rails": site("racks: 2", "rail_racks: 0, racks: 2"),
    "one document twice": TENANT + "---\n" + TENANT,
    "hardware that can't be": SITE + HARDWARE,
    "an alias of itself": "kind: tenant\nname: t\nprojects: &a [*a]\n",
    "aliases of aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(5)),
    "too deep": "kind: " + "[" * 100 + "]" * 100,
    "far too deep": "kind: " + "[" * 5_000 + "]" * 5_000,
    "a wrong site and a wrong block": changed(site("firm: 40MW", "firm: 40"), "2025-02-01", "2025-02-31"),
    "two documents, both wrong": changed(TENANT, "[a]", "[A]")
    + "---\n"
    + changed(CONTRACT, "plan: p", "paln: p"),
    "a field that plays with the terminal": 'kind: tenant\nname: t\nprojects: [a]\n"\\e[31mred": 1\n',
    "a number that is huge": work("nodes: " + "9" * 5_000),
}
