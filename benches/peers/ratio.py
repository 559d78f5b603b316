"""Reads benchmark results, one JSON object after another, Ocelli's without `engine`; prints per engine the best median
of all rounds, the shortest run of all, and the peer's median divided by Ocelli's (above 1: Ocelli is faster).

PyTorch's threads wait for each other by spinning, so that its times are worthless while anything else keeps a core
busy: a median far above the minimum says so."""

import json
import sys


def objects(text):
    decoder, rest = json.JSONDecoder(), text.lstrip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


best, shortest = {}, {}
for result in objects(sys.stdin.read()):
    engine = result.get("engine", "Ocelli")
    shortest[engine] = min(result["min_ms"], shortest.get(engine, result["min_ms"]))
    if engine not in best or result["median_ms"] < best[engine]["median_ms"]:
        best[engine] = result
ours = best["Ocelli"]
print(f"{ours['model']}, {ours['mode']}, batch {ours['batch']}, {ours['threads']} threads")
for engine, result in best.items():
    ratio = result["median_ms"] / ours["median_ms"]
    print(f"{engine:40} {result['median_ms']:9.2f} ms (min {shortest[engine]:8.2f})  {result['peak_rss_mib']:6.0f} MiB  x{ratio:.2f}")
