"""``pixelssr-geo nets``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from pixelssr_geo.cli.options import json_option


@click.command()
@click.option("--bands", type=int, default=3, show_default=True, help="Bands of the scene.")
@click.option("--channels", type=int, default=31, show_default=True, help="Channels of the cube.")
@click.option("--tile", type=int, default=128, show_default=True, help="Side of a tile, pixels.")
@json_option
def nets(bands: int, channels: int, tile: int, as_json: bool) -> None:
    """List the networks with parameters, multiply-accumulates and time per tile (best of 3) here."""
    import json

    from pixelssr_geo.experiments.network_costs import TileSize, count_network, time_networks
    from pixelssr_geo.nets import list_nets

    size = TileSize(bands, channels, tile)
    timings = time_networks([spec.name for spec in list_nets()], size, rounds=3)
    rows: list[dict[str, Any]] = []
    for spec in list_nets():
        counts = count_network(spec.name, size)
        rows.append(
            {
                "net": spec.name,
                "paper": spec.paper,
                "parameters": counts.parameters,
                "macs_layers": counts.profiled_macs,
                "macs_all": counts.macs,
                "seconds_per_tile": round(timings.best(spec.name), 3),
            }
        )
    if as_json:
        click.echo(json.dumps(rows))
        return
    click.echo(f"{bands} bands to {channels} channels, {tile} x {tile} pixels, this CPU")
    for row in rows:
        click.echo(
            f"{row['net']:<14} {row['parameters'] / 1e6:.3f} M parameters, "
            f"{row['macs_layers'] / 1e9:.2f} G MACs in layers ({row['macs_all'] / 1e9:.2f} G with "
            f"scans and matrix products), {row['seconds_per_tile']:.2f} s per tile; {row['paper']}"
        )
