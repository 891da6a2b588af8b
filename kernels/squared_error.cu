// Squared error of an auto-encoder and the gradient of its mean, on the GPU.
//
//   x         [IMAGES][VALUES], real, or float with FLOAT_IN; target [IMAGES][VALUES], real
//   output    [IMAGES][VALUES]: x
//   gradient  [IMAGES][VALUES], real: (x - target) / batch; 0 for images from `count` on;
//             none without TRAINING
//   errors    [IMAGES]: the sum of (x - target)^2 / 2; 0 for images from `count` on
//   totals    [3]: the sum of errors, in a fixed order, and twice 0
//
// Grid: squared_error IMAGES blocks of 256; sum_errors one block of 32.

#include "real.cuh"
#if FLOAT_IN
using Score = float;
#else
using Score = real;
#endif

extern "C" __global__ void __launch_bounds__(256)
squared_error(const Score* __restrict__ x, const real* __restrict__ target, int count,
              float batch, float* __restrict__ output, real* __restrict__ gradient,
              float* __restrict__ errors) {
    __shared__ float shared[8];
    int image = blockIdx.x, t = threadIdx.x;
    bool counts = image < count;
    size_t first = (size_t)image * VALUES;
    float sum = 0.f;
    for (int i = t; i < VALUES; i += 256) {
        float value = x[first + i];
        float apart = counts ? __fsub_rn(value, target[first + i]) : 0.f;
        output[first + i] = value;
        if (TRAINING) gradient[first + i] = counts ? __fdiv_rn(apart, batch) : 0.f;
        sum = __fadd_rn(sum, __fmul_rn(apart, apart));
    }
    for (int mask = 16; mask > 0; mask /= 2) {
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, mask));
    }
    if (t % 32 == 0) shared[t / 32] = sum;
    __syncthreads();
    if (t == 0) {
        for (int warp = 1; warp < 8; warp++) sum = __fadd_rn(sum, shared[warp]);
        errors[image] = 0.5f * sum;
    }
}

extern "C" __global__ void sum_errors(const float* __restrict__ errors,
                                      float* __restrict__ totals) {
    float sum = 0.f;
    for (int i = threadIdx.x; i < IMAGES; i += 32) sum = __fadd_rn(sum, errors[i]);
    for (int mask = 16; mask > 0; mask /= 2) {
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, mask));
    }
    if (threadIdx.x == 0) {
        totals[0] = sum;
        totals[1] = 0.f;
        totals[2] = 0.f;
    }
}
