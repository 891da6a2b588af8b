// Softmax, log-loss, errors and the gradient of the mean loss, on the GPU.
//
//   x              [IMAGES][CLASSES], real, or float with FLOAT_IN; label [IMAGES]
//   probabilities  [IMAGES][CLASSES]
//   gradient       [IMAGES][CLASSES], real: (p - onehot) / batch; 0 for images from `count` on;
//                  none without TRAINING
//   scores         [IMAGES][3]: -ln p[label], 1 if the label is not first, 1 if it is not among the
//                  first TOP
//                  (a class comes first if its probability is greater, or equal and its index less)
//   totals         [3]: the sums of scores, in a fixed order
//
// Grid: softmax IMAGES blocks of 256; sum_scores one block of 32.

#include "real.cuh"
#if FLOAT_IN
using Score = float;
#else
using Score = real;
#endif

// The same value for all 256 threads: all threads' values combined in a fixed order.
template <class Combine>
__device__ __forceinline__ float combine(float value, float* shared, Combine both) {
    for (int mask = 16; mask > 0; mask /= 2) {
        value = both(value, __shfl_xor_sync(0xffffffffu, value, mask));
    }
    __syncthreads();  // the last use of `shared` is over
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = shared[0];
    for (int warp = 1; warp < 8; warp++) value = both(value, shared[warp]);
    return value;
}

extern "C" __global__ void __launch_bounds__(256)
softmax(const Score* __restrict__ x, const int* __restrict__ label, int count, float batch,
        float* __restrict__ probabilities, real* __restrict__ gradient,
        float* __restrict__ scores) {
    __shared__ float shared[8];
    int image = blockIdx.x, t = threadIdx.x;
    auto add = [](float a, float b) { return __fadd_rn(a, b); };
    auto larger = [](float a, float b) { return fmaxf(a, b); };
    x += (size_t)image * CLASSES;
    probabilities += (size_t)image * CLASSES;
    if (TRAINING) gradient += (size_t)image * CLASSES;

    float most = x[0];
    for (int c = t; c < CLASSES; c += 256) most = fmaxf(most, x[c]);
    most = combine(most, shared, larger);
    float sum = 0.f;
    for (int c = t; c < CLASSES; c += 256) sum = __fadd_rn(sum, expf(x[c] - most));
    sum = combine(sum, shared, add);

    bool counts = image < count;
    int right = counts ? label[image] : 0;
    float right_probability = __fdiv_rn(expf(x[right] - most), sum), before = 0.f;
    for (int c = t; c < CLASSES; c += 256) {
        float p = __fdiv_rn(expf(x[c] - most), sum);
        probabilities[c] = p;
        float slope = __fdiv_rn(c == right ? __fsub_rn(p, 1.f) : p, batch);
        if (TRAINING) gradient[c] = counts ? slope : 0.f;
        if (p > right_probability || (p == right_probability && c < right)) before += 1.f;
    }
    before = combine(before, shared, add);
    if (t == 0) {
        scores[image * 3] = counts ? logf(sum) - (x[right] - most) : 0.f;
        scores[image * 3 + 1] = counts && before >= 1.f ? 1.f : 0.f;
        scores[image * 3 + 2] = counts && before >= float(TOP) ? 1.f : 0.f;
    }
}

extern "C" __global__ void sum_scores(const float* __restrict__ scores,
                                      float* __restrict__ totals) {
    for (int kind = 0; kind < 3; kind++) {
        float sum = 0.f;
        for (int i = threadIdx.x; i < IMAGES; i += 32) sum = __fadd_rn(sum, scores[i * 3 + kind]);
        for (int mask = 16; mask > 0; mask /= 2) {
            sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, mask));
        }
        if (threadIdx.x == 0) totals[kind] = sum;
    }
}
