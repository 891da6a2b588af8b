// Sums in a fixed order.
//
// reduce_splits: the parts that a product was shared out to (conv_*.cu with SPLITS > 1), added up
// in rising order, with bias and ReLU where the forward pass wants them.
//   parts [SPLITS][COUNT], bias [BIAS_LENGTH] (read if BIAS), out [COUNT]; COUNT % BIAS_LENGTH == 0
//   Grid: COUNT / 256.
//
// column_sums: out[c] = sum of in[r][c] over rows, as SPLITS parts for reduce_splits to finish
// (the gradient to a bias: rows are pixels, or images for a locally connected layer).
//   in [ROWS][COLUMNS], out [SPLITS][COLUMNS]
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
#include "epilogue.cuh"

extern "C" __global__ void __launch_bounds__(256)
reduce_splits(const float* __restrict__ parts, const float* __restrict__ bias,
              float* __restrict__ out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= COUNT) return;
    float sum = parts[i];
    for (int s = 1; s < SPLITS; s++) sum = __fadd_rn(sum, parts[(size_t)s * COUNT + i]);
    out[i] = BIAS ? with_bias(sum, bias[i % BIAS_LENGTH]) : sum;
}

extern "C" __global__ void __launch_bounds__(256)
column_sums(const float* __restrict__ in, float* __restrict__ out) {
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
