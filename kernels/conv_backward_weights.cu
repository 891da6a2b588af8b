// Convolution, gradient to the weights (weights.cuh) and, with BIASES, to the biases (bias.cuh).
//
//   out     float, shaped as the weights (conv_forward.cu) with REAL_C channels a group; with
//           SPLITS > 1, that many parts, which reduce_splits adds up in order
//   biases  [BIASES], if there are some; with SPLITS > 1 not used: as many parts lie behind those
//           of the weights
//
// Grid: as in weights.cuh, with what bias.cuh adds.
#include "bias.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_backward_weights(EACH(const real* __restrict__, x), EACH(const real* __restrict__, gradient),
                      EACH(float* __restrict__, out)
#if BIASES
                      , EACH(float* __restrict__, biases)
#endif
) {
    OWN(x);
    OWN(gradient);
    OWN(out);
    SHARED_MEMORY(shared);
#if BIASES
    if (int repetition = summed_repetition(); repetition >= 0) {
        OWN(biases);
        constexpr size_t BEHIND = (size_t)SPLITS * KERNEL_H * KERNEL_W * REAL_C * BIASES;
        float* to = SPLITS > 1 ? out + BEHIND : biases;
        bias_sums(gradient, repetition, shared, [&](int index, float sum) { to[index] = sum; });
        return;
    }
#endif
    Sums sums;
    Weights lines = sum(x, gradient, shared, sums);
    write_sums<GROUP_OUT, WIDE_OUT>(sums, block_of_lines() * LINES, blockIdx.y * COLUMNS, out,
                                    lines, [](int) { return Plain(); });
}
