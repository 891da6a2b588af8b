// Convolution, gradient to the weights (weights.cuh) and at once their update by it (rule.cuh); the
// gradient is written nowhere. For fully connected layers, whose sums over the batch one block
// makes whole: in f32 a sixteenth of a step's bytes less. Not in bfloat16: with the weights'
// rounding in it, too, a step of 128 images on an H200 took 3.85 ms in place of 3.6, in f32 15.04
// in place of 15.15.
//
//   w, v  weights and their momenta, float, shaped as conv_forward.cu says
//   loss  nothing changes where it is no number, or not finite
//   bias_w, bias_v  the biases [BIASES] and their momenta, by a rule of their own; none stay
//
// Grid: as in weights.cuh, with what bias.cuh adds.
#include "bias.cuh"
#include "rule.cuh"

// So many lines are on their way from memory at once; of two towers fewer where there are 128
// registers, for which ptxas would spill.
constexpr int UNDERWAY = TOWERS == 2 && BLOCKS == 2 ? 2 : Sums::DOWN % 4 == 0 ? 4 : 1;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_backward_update(EACH(const real* __restrict__, x), EACH(const real* __restrict__, gradient),
                     EACH(float* __restrict__, w), EACH(float* __restrict__, v), float momentum,
                     float decay, float rate, EACH(float* __restrict__, bias_w),
                     EACH(float* __restrict__, bias_v), float bias_momentum, float bias_decay,
                     float bias_rate, EACH(const float* __restrict__, loss)) {
    OWN(x);
    OWN(gradient);
    OWN(loss);
    static_assert(!BF16 && SPLITS == 1, "whole sums in f32");
    static_assert(GROUP_OUT % TOGETHER == 0 && REAL_C == GROUP_IN, "whole groups");
    SHARED_MEMORY(shared);
    if (!counts(loss)) return;
    if (int repetition = summed_repetition(); repetition >= 0) {
        OWN(bias_w);
        OWN(bias_v);
        if (!bias_w) return;
        Rule rule{bias_momentum, bias_decay, bias_rate};
        bias_sums(gradient, repetition, shared, [&](int index, float sum) {
            rule.apply(bias_w[index], bias_v[index], sum);
        });
        return;
    }
    Sums sums;
    Weights lines = sum(x, gradient, shared, sums);
    OWN(w);
    OWN(v);
    Rule rule{momentum, decay, rate};
#pragma unroll
    for (int j = 0; j < Sums::ACROSS; j++) {
        int n = blockIdx.y * COLUMNS + Sums::group_column(j);
        if (n >= GROUP_OUT) continue;
#pragma unroll
        for (int first = 0; first < Sums::DOWN; first += UNDERWAY) {
            float value[UNDERWAY][TOGETHER], speed[UNDERWAY][TOGETHER];
#pragma unroll
            for (int i = 0; i < UNDERWAY; i++) {
                int m = block_of_lines() * LINES + Sums::group_line(first + i);
                if (!lines.exists(m)) continue;
                load_together(w + lines.at(m) + n, value[i]);
                load_together(v + lines.at(m) + n, speed[i]);
            }
#pragma unroll
            for (int i = 0; i < UNDERWAY; i++) {
                int m = block_of_lines() * LINES + Sums::group_line(first + i);
                if (!lines.exists(m)) continue;
                size_t at = lines.at(m) + n;
#pragma unroll
                for (int q = 0; q < TOGETHER; q++) {
                    rule.apply(value[i][q], speed[i][q], sums.group(first + i, j)[q]);
                }
                store_together(v + at, speed[i]);
                store_together(w + at, value[i]);
            }
        }
    }
}
