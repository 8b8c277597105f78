"""The command ``nuclei``: pictures in, every nucleus by itself out."""

from __future__ import annotations

import argparse
from pathlib import Path

from delineate.cli.session import Command, Session


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of them")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--model",
        type=Path,
        help="model of instances that `run` trained, or a checkpoint of HoVer-Net; default: the one of the program",
    )
    parser.add_argument(
        "--types",
        type=Path,
        metavar="JSON",
        help='names of the types, {"1": "inflammatory", ...} or HoVer-Net\'s type_info.json',
    )
    parser.add_argument(
        "--mpp", type=float, metavar="UM", help="micrometres per pixel; without it lengths are told in pixels"
    )
    parser.add_argument(
        "--diameter", type=float, metavar="PX", help="typical diameter of the nuclei in pixels, if it is unusual"
    )
    parser.add_argument(
        "--published-decoding", action="store_true", help="HoVer-Net: the published constants, not the corrected ones"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))


def _run(session: Session) -> int:
    from delineate.workflows.nuclei_model import open_nuclei_model
    from delineate.workflows.segment_instances import PictureScale
    from delineate.workflows.segment_pictures import segment_pictures

    options = session.options
    scale = PictureScale(pixel_um=options.mpp, diameter=options.diameter)
    model = open_nuclei_model(
        options.model,
        types=options.types,
        device=options.device,
        precision=options.precision,
        published_decoding=options.published_decoding,
    )
    found = segment_pictures(model, options.pictures, options.out, scale=scale, **session.watched)
    for picture in found:
        kinds = ", ".join(f"{name} {count}" for name, count in picture.by_type)
        print(f"{picture.name}: {picture.count} nuclei{' (' + kinds + ')' if kinds else ''}")
    print(f"label maps, GeoJSON, tables and pictures in {options.out}")
    return 0


COMMANDS = (Command(name="nuclei", help="find every nucleus of microscope pictures", declare=_options, run=_run),)
