// Crops as they come from the loader to the network's input: ((x - mean) + shift) * scale.
//
//   crops [IMAGES][H][W][C] bytes, mean [H][W][C], shift [IMAGES][C] (colour noise), scale [IMAGES]
//   y     [IMAGES][H][W][C]
//
// Grid: elements / 256.
extern "C" __global__ void __launch_bounds__(256)
input(const unsigned char* __restrict__ crops, const float* __restrict__ mean,
      const float* __restrict__ shift, const float* __restrict__ scale, float* __restrict__ y) {
    constexpr int IMAGE = H * W * C;
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IMAGES * IMAGE) return;
    int image = i / IMAGE;
    float centred = __fsub_rn(float(crops[i]), mean[i % IMAGE]);
    y[i] = __fmul_rn(__fadd_rn(centred, shift[image * C + i % C]), scale[image]);
}
