// Convolution, gradient to the weights (weights.cuh).
//
//   out  float, shaped as the weights (conv_forward.cu) with REAL_C channels a group; with
//        SPLITS > 1, that many parts, which reduce_splits adds up in order
#include "weights.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_backward_weights(const real* __restrict__ x, const real* __restrict__ gradient,
                      float* __restrict__ out) {
    SHARED_MEMORY(shared);
    Sums sums;
    Weights lines = sum(x, gradient, shared, sums);
    write_sums<GROUP_OUT, WIDE_OUT>(sums, block_of_lines() * LINES, blockIdx.y * COLUMNS, out,
                                    lines, [](int) { return Plain(); });
}
