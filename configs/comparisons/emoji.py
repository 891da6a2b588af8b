"""The emoji of npm's emoji-datasource-google as a folder for each category, composed on white.

    python configs/comparisons/emoji.py PACKAGE OUT

Needs Pillow. The category `component`, of five, is left out.
"""

import json
import sys
from pathlib import Path

from PIL import Image

package, out = map(Path, sys.argv[1:])
for emoji in json.loads((package / "emoji.json").read_text()):
    file = package / "img/google/64" / emoji["image"]
    if not file.exists() or emoji["category"] == "Component":
        continue
    folder = out / emoji["category"].replace(" & ", "-and-").replace(" ", "-").lower()
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.open(file).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    Image.alpha_composite(white, picture).convert("RGB").save(folder / emoji["image"])
