// Sums in a fixed order.
//
// reduce_splits: the parts that a product was shared out to (conv_*.cu with SPLITS > 1), added up
// in rising order, with bias and ReLU where the forward pass wants them.
//   parts [SPLITS][COUNT], bias [BIAS_LENGTH] (read if BIAS), x [COUNT] real (read if MASK:
//   a ReLU's output, below which the gradient goes on), out [COUNT], real if OUT_REAL;
//   COUNT % BIAS_LENGTH == 0
//   Grid: COUNT / PER / 256; PER sums a thread.
//
// With BIASES, as many sums more, of parts [SPLITS][BIASES] behind the others, to `biases` (the
// gradient to biases beside that to weights, bias.cuh). Grid: BIASES / 256 blocks more.
#ifndef BIAS
#define BIAS 0
#define RELU 0
#define BIAS_LENGTH 1
#endif
#ifndef BIASES
#define BIASES 0
#endif
#ifndef MASK
#define MASK 0
#endif
#ifndef OUT_REAL
#define OUT_REAL 0
#endif
#include "epilogue.cuh"
#include "real.cuh"

#if OUT_REAL
using Output = real;
#else
using Output = float;
#endif
constexpr int PER = 4, BLOCKS = (COUNT + PER * 256 - 1) / (PER * 256);

extern "C" __global__ void __launch_bounds__(256)
reduce_splits(EACH(const float* __restrict__, parts), EACH(const float* __restrict__, bias),
              EACH(const real* __restrict__, x), EACH(Output* __restrict__, out)
#if BIASES
              , EACH(float* __restrict__, biases)
#endif
) {
    OWN(parts);
    OWN(bias);
    OWN(x);
    OWN(out);
#if BIASES
    OWN(biases);
    if (block_x() >= BLOCKS) {
        int i = (block_x() - BLOCKS) * 256 + threadIdx.x;
        if (i >= BIASES) return;
        const float* part = parts + (size_t)SPLITS * COUNT + i;
        float sum = part[0];
#pragma unroll 16
        for (int s = 1; s < SPLITS; s++) sum = __fadd_rn(sum, part[(size_t)s * BIASES]);
        biases[i] = sum;
        return;
    }
#endif
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    float sum[PER];
    for (int s = 0; s < SPLITS; s++) {
        const float* part = parts + (size_t)s * COUNT + i;
        float own[PER];
        if (COUNT % PER == 0) {
            float4 wide = load4(part);
            own[0] = wide.x, own[1] = wide.y, own[2] = wide.z, own[3] = wide.w;
        } else {
#pragma unroll
            for (int q = 0; q < PER; q++) own[q] = i + q < COUNT ? part[q] : 0.f;
        }
#pragma unroll
        for (int q = 0; q < PER; q++) sum[q] = s == 0 ? own[q] : __fadd_rn(sum[q], own[q]);
    }
#pragma unroll
    for (int q = 0; q < PER; q++) {
        if (COUNT % PER != 0 && i + q >= COUNT) return;
        float whole = BIAS ? with_bias(sum[q], bias[(i + q) % BIAS_LENGTH]) : sum[q];
        out[i + q] = !MASK || float(x[i + q]) > 0.f ? whole : 0.f;
    }
}
