"""torchvision's side of benches/loader.rs: 224x224 training crops of 256x256 images, f32, batches of 128.

python3 benches/peers/loader_torchvision.py    (needs torch, torchvision, pillow, numpy)

RandomCrop, RandomHorizontalFlip, to f32, Normalize by channel, stacked into batches, on one thread:
- from arrays through PIL images (ToTensor), the way of torchvision's examples,
- from uint8 tensors (transforms.v2), all for each image,
- the same, with only crop and flip for each image and the rest for the whole batch,
- from JPEG files in memory through PIL.
It does less than the Rust loader: no colour noise, one mean for each channel instead of a mean image.
"""

import io
import time

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

RECORDS, BATCH, ROUNDS = 512, 128, 5
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

torch.set_num_threads(1)
torch.manual_seed(1)
generator = np.random.default_rng(1)


def report(name, source, transform, finish=lambda batch: batch):
    """Prints the fastest and the median of some rounds over all records, in crops per second."""
    rates = []
    for _ in range(ROUNDS):
        since = time.perf_counter()
        for first in range(0, RECORDS, BATCH):
            finish(torch.stack([transform(image) for image in source[first:first + BATCH]]))
        rates.append(RECORDS / (time.perf_counter() - since))
    rates.sort()
    print(f"{name:<54} {rates[-1]:8.0f} crops/s at best, {rates[ROUNDS // 2]:8.0f} median")


def photograph_like():
    """Blurred noise, which compresses about like a photograph."""
    small = generator.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((256, 256), Image.BICUBIC), dtype=np.int16)
    grain = generator.normal(0, 4, image.shape).astype(np.int16)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


images = [photograph_like() for _ in range(RECORDS)]
files = [jpeg(image) for image in images]
tensors = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]

pil = [
    transforms.RandomCrop(224),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(MEAN, STD),
]
tensor = [
    v2.RandomCrop(224),
    v2.RandomHorizontalFlip(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(MEAN, STD, inplace=True),
]

with open("/proc/cpuinfo") as info:
    model = next((line.split(": ")[1].strip() for line in info if line.startswith("model name")), "unknown CPU")
print(f"{model}, torch {torch.__version__}, 1 thread")
report("arrays, PIL transforms", images, transforms.Compose([Image.fromarray, *pil]))
report("uint8 tensors, transforms.v2", tensors, transforms.Compose(tensor))
report("uint8 tensors, transforms.v2, batch at once", tensors, transforms.Compose(tensor[:2]), transforms.Compose(tensor[2:]))
size = sum(map(len, files)) // RECORDS
decode = transforms.Lambda(lambda file: Image.open(io.BytesIO(file)).convert("RGB"))
report(f"JPEGs of {size} bytes, PIL transforms", files, transforms.Compose([decode, *pil]))
