// Layer-wise rates (You, Gitman and Ginsburg 2017, algorithm 1): lengths of a layer's weights and
// of their gradient, and the rate and decay that follow. Sums in double, in an order that depends
// on COUNT alone, so that every GPU comes to the same bits.
//
// squares: sums of squares of one part, a share a block.
//   w, g [COUNT], sums [slots][256][2]: of slot `slot` the first BLOCKS are written, w then g
//   Grid: BLOCKS blocks of 256; each thread takes every BLOCKS * 256th value.
//
// trust: rate and decay of the weights of a layer of one or two parts, whose sums are in slot
// `slot_a` of `a`, and in slot `slot_b` of `b` where there is a second part.
//   scaled [2]: the rate times the ratio, the decay times the ratio; 1 for lengths of 0
//   Grid: one block of 256.

// For thread 0 the sum of all threads' values, in a fixed order.
__device__ __forceinline__ double in_order(double value, double* shared) {
    int t = threadIdx.x;
    __syncthreads();  // the last use of `shared` is over
    shared[t] = value;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) shared[t] += shared[t + half];
    }
    return shared[t];
}

extern "C" __global__ void __launch_bounds__(256)
squares(const float* __restrict__ w, const float* __restrict__ g, double* __restrict__ sums,
        unsigned slot) {
    __shared__ double shared[256];
    double of_w = 0, of_g = 0;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < COUNT; i += BLOCKS * 256) {
        double value = w[i], slope = g[i];
        of_w += value * value;
        of_g += slope * slope;
    }
    of_w = in_order(of_w, shared);
    of_g = in_order(of_g, shared);
    if (threadIdx.x != 0) return;
    double* own = sums + (slot * 256 + blockIdx.x) * 2;
    own[0] = of_w, own[1] = of_g;
}

extern "C" __global__ void __launch_bounds__(256)
trust(const double* __restrict__ a, unsigned slot_a, unsigned blocks_a,
      const double* __restrict__ b, unsigned slot_b, unsigned blocks_b, float coefficient,
      float decay, float rate, float* __restrict__ scaled) {
    __shared__ double shared[256];
    unsigned t = threadIdx.x;
    double length[2];
    for (int of = 0; of < 2; of++) {
        double first = t < blocks_a ? a[(slot_a * 256 + t) * 2 + of] : 0;
        double second = b && t < blocks_b ? b[(slot_b * 256 + t) * 2 + of] : 0;
        double sum = in_order(first, shared);
        length[of] = sqrt(sum + in_order(second, shared));
    }
    if (t != 0) return;
    double w = length[0], g = length[1], kept = double(decay) / double(rate);
    double ratio = w > 0 && g > 0 ? double(coefficient) * w / (g + kept * w) : 1;
    scaled[0] = float(double(rate) * ratio);
    scaled[1] = float(double(decay) * ratio);
}
