// Crops as they come from the loader to the network's input: ((x - mean) + shift) * scale, each
// operation rounded, which gives the CPU's bits (src/data/augment).
//
//   crops [images][HEIGHT][WIDTH][CHANNELS] bytes, mean [HEIGHT][WIDTH][CHANNELS]
//   colours [images][2][CHANNELS]: of each image the shift of each channel (colour noise), then its
//     scale
//   y [IMAGES][HEIGHT][WIDTH][STORED_C], real: channels from CHANNELS on are 0; what a smaller
//     batch leaves of it becomes 0, so that it is in no sum
//
// Grid: pixels * STORED_C / 256.
#include "real.cuh"
#ifndef STORED_C
#define STORED_C CHANNELS
#endif

extern "C" __global__ void __launch_bounds__(256)
input(const unsigned char* __restrict__ crops, const float* __restrict__ mean,
      const float* __restrict__ colours, int images, real* __restrict__ y) {
    constexpr int PIXELS = HEIGHT * WIDTH;
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IMAGES * PIXELS * STORED_C) return;
    int c = i % STORED_C, pixel = i / STORED_C, image = pixel / PIXELS;
    if (image >= images || c >= CHANNELS) {
        y[i] = 0.f;
        return;
    }
    const float* colour = colours + image * 2 * CHANNELS;
    float crop = crops[pixel * CHANNELS + c];
    float centred = __fsub_rn(crop, mean[pixel % PIXELS * CHANNELS + c]);
    y[i] = __fmul_rn(__fadd_rn(centred, colour[c]), colour[CHANNELS + c]);
}
