// The tiled matrix product that convolutions, locally connected and fully connected layers share:
// in f32 (product32.cuh), or on tensor cores in TF32 or bfloat16 (product_tensor.cuh).
//
// A kernel describes its factors by sources, one for the lines and one for the columns of the
// product: `line(i)` prepares what belongs to line or column i, `base(k)` what belongs to a tile
// that begins at k, and `find(line, base, d)` says where element k + d of the line lies in `data`.
// Source::ALONG_K says along what neighbours are contiguous in memory, along k or along the line;
// WIDE, that a pack of them always is. Then
//
//   product(left, first_line, right, first_column, begin, end, shared, sums)
//
// is left * right over k in [begin, end); `begin` and, save for the last part, `end` are multiples
// of DEPTH, and sources say of what lies beyond their last k that it does not exist. And
//
//   write_sums<WIDTH, WIDE>(sums, first_line, first_column, out, lines, finish)
//
// writes it into `out`, whose lines have WIDTH columns and lie where `lines` says. `finish(n)`
// prepares what belongs to the TOGETHER columns from n on; called with a sum, its column (from 0)
// and the place of the first it gives what is written. WIDE: TOGETHER are written at once, so WIDTH
// and the lines' places are multiples of it.
#pragma once
#include "real.cuh"

// Where an element lies, and whether it exists.
struct Found {
    int at;
    bool exists;
};

#if TILE_TENSOR
#include "product_tensor.cuh"
#else
#include "product32.cuh"
#endif

// Which lines a block is for, and which of what is repeated (groups, places of a local layer, parts
// of a sum). A grid ends at 65,535 blocks along z; more than that stand in x, LINE_BLOCKS to each.
#ifdef LINE_BLOCKS
__device__ __forceinline__ int block_of_lines() { return block_x() % LINE_BLOCKS; }
__device__ __forceinline__ int repetition() { return block_x() / LINE_BLOCKS; }
#else
__device__ __forceinline__ int block_of_lines() { return block_x(); }
__device__ __forceinline__ int repetition() { return blockIdx.z; }
#endif

// Where the lines of a result lie: COUNT of them, every STEP values from `first` on.
template <int COUNT, int STEP> struct Lines {
    size_t first;
    __device__ __forceinline__ bool exists(int m) const { return m < COUNT; }
    __device__ __forceinline__ size_t at(int m) const { return first + (size_t)m * STEP; }
};

// The sums as they are: gradients to weights, and parts that reduce_splits adds up.
struct Plain {
    __device__ __forceinline__ float operator()(float sum, int, size_t) const { return sum; }
};

// The sums as a gradient below which a ReLU lies: where its output is not above 0 nothing goes on.
template <bool MASKED> struct Masked {
    const real* output;
    __device__ __forceinline__ float operator()(float sum, int q, size_t at) const {
        return !MASKED || float(output[at + q]) > 0.f ? sum : 0.f;
    }
};
