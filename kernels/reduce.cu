// Sums in a fixed order.
//
// reduce_splits: the parts that a product was shared out to (conv_*.cu with SPLITS > 1), added up
// in rising order, with bias and ReLU where the forward pass wants them.
//   parts [SPLITS][COUNT], bias [BIAS_LENGTH] (read if BIAS), x [COUNT] real (read if MASK:
//   a ReLU's output, below which the gradient goes on), out [COUNT], real if OUT_REAL;
//   COUNT % BIAS_LENGTH == 0
//   Grid: COUNT / PER / 256; PER sums a thread.
//
// column_sums: out[c] = sum of in[r][c] over rows, as SPLITS parts for reduce_splits to finish
// (the gradient to a bias: rows are pixels, or images for a locally connected layer).
//   in [ROWS][COLUMNS] real, out [SPLITS][COLUMNS]
//   Grid: x COLUMNS / 32, y SPLITS. Block 32 x 8: each thread sums every 8th row of its share.
#ifndef BIAS
#define BIAS 0
#define RELU 0
#define BIAS_LENGTH 1
#endif
#ifndef COUNT
#define COUNT COLUMNS
#endif
#ifndef ROWS
#define ROWS 0
#define COLUMNS 1
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
constexpr int PER = 4;

extern "C" __global__ void __launch_bounds__(256)
reduce_splits(const float* __restrict__ parts, const float* __restrict__ bias,
              const real* __restrict__ x, Output* __restrict__ out) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
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

extern "C" __global__ void __launch_bounds__(256)
column_sums(const real* __restrict__ in, float* __restrict__ out) {
    __shared__ float sums[8][33];
    int column = blockIdx.x * 32 + threadIdx.x;
    constexpr int SHARE = (ROWS + SPLITS - 1) / SPLITS;
    int begin = blockIdx.y * SHARE, end = min(begin + SHARE, ROWS);
    float sum = 0.f;
    if (column < COLUMNS) {
        for (int row = begin + threadIdx.y; row < end; row += 8) {
            sum = __fadd_rn(sum, in[(size_t)row * COLUMNS + column]);
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= COLUMNS) return;
    for (int i = 1; i < 8; i++) sum = __fadd_rn(sum, sums[i][threadIdx.x]);
    out[blockIdx.y * COLUMNS + column] = sum;
}
