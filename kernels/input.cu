// Crops as they come from the loader to the network's input: ((x - mean) + shift) * scale, each
// operation rounded, which gives the CPU's bits (src/data/augment).
//
//   crops [images][H][W][C] bytes, mean [H][W][C]
//   colours [images][2][C]: of each image the shift of each channel (colour noise), then its scale
//   y [IMAGES][H][W][C]; what a smaller batch leaves of it becomes 0, so that it is in no sum
//
// Grid: elements / 256.
extern "C" __global__ void __launch_bounds__(256)
input(const unsigned char* __restrict__ crops, const float* __restrict__ mean,
      const float* __restrict__ colours, int images, float* __restrict__ y) {
    constexpr int IMAGE = H * W * C;
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IMAGES * IMAGE) return;
    int image = i / IMAGE;
    if (image >= images) {
        y[i] = 0.f;
        return;
    }
    const float* colour = colours + image * 2 * C;
    float centred = __fsub_rn(float(crops[i]), mean[i % IMAGE]);
    y[i] = __fmul_rn(__fadd_rn(centred, colour[i % C]), colour[C + i % C]);
}
