// The tiled matrix product on tensor cores, in bfloat16 or in TF32 (product.cuh): factors as they
// are stored, sums in f32.
//
// A block computes LINES x COLUMNS sums. Its warps stand WARPS_M x WARPS_N, each with LINES /
// WARPS_M x COLUMNS / WARPS_N sums in instructions of 16 x 8. Both factors go to shared memory by
// asynchronous copies of 16 bytes, DEPTH values of k at a time, in STAGES buffers: while one is
// multiplied, STAGES - 1 are on their way. A factor keeps its order on the way: rows of k for each
// line if neighbours lie along k, rows of lines for each k if along the line. Every sum runs over k
// in rising order.
//
// Rows of k are an odd number of 16 bytes apart, so that the 8 of a matrix that load_matrices takes
// meet all banks once. Rows of lines it turns in bfloat16; turned words of 4 bytes it does not
// know, so in TF32 each lane takes its own, from 4 rows that are 8 banks (or 24) apart: all banks
// once, too. Factors in f32 are rounded to TF32 as they are taken.
#pragma once
#include "tensor.cuh"

constexpr int WARP_LINES = 8 * TILE_THREAD_M, WARP_COLUMNS = 4 * TILE_THREAD_N;
constexpr int LINES = TILE_WARPS_M * WARP_LINES, COLUMNS = TILE_WARPS_N * WARP_COLUMNS;
constexpr int THREADS = TILE_WARPS_M * TILE_WARPS_N * 32;
constexpr int DEPTH = TILE_DEPTH;
constexpr int STAGES = TILE_STAGES;
constexpr int BLOCKS = TILE_BLOCKS;  // that must find room on a multiprocessor
// Values of k of an instruction.
constexpr int STEP_K = BF16 ? 16 : 8;
static_assert(DEPTH % STEP_K == 0 && WARP_LINES % 16 == 0 && WARP_COLUMNS % 16 == 0, "tile");

// A word of a factor as the instruction takes it.
__device__ __forceinline__ unsigned taken(unsigned word) {
    return BF16 ? word : bits_of(to_tf32(of_bits(word)));
}

// A tile of one factor in shared memory.
template <class Source, int SPAN> struct Tile {
    static constexpr int ROW = Source::ALONG_K ? DEPTH : SPAN, ROWS = DEPTH * SPAN / ROW;
    static constexpr int ODD = ROW + (ROW / PACK % 2 ? 0 : PACK);
    static constexpr int PITCH = Source::ALONG_K || BF16 ? ODD : SPAN + 8;
    static constexpr int VALUES = ROWS * PITCH;  // of a buffer
    static constexpr int CHUNKS = ROW / PACK;    // copies of a row
    static constexpr int UNITS = ROWS * CHUNKS;
    static constexpr int COUNT = (UNITS + THREADS - 1) / THREADS;  // of one thread
    static constexpr bool EXACT = UNITS % THREADS == 0;

    const Source& source;
    int first;
    typename Source::Line lines[Source::WIDE ? COUNT : 1];

    // Which line (the first of a pack, if they lie along it) and which k of the tile a unit is.
    static __device__ __forceinline__ int line_of(int unit) {
        return Source::ALONG_K ? unit / CHUNKS : unit % CHUNKS * PACK;
    }
    // Of the thread's unit i: the same for all of them where rows divide the threads.
    static __device__ __forceinline__ int k_of(int i) {
        if (Source::ALONG_K && THREADS % CHUNKS == 0) return threadIdx.x % CHUNKS * PACK;
        int unit = threadIdx.x + i * THREADS;
        return Source::ALONG_K ? unit % CHUNKS * PACK : unit / CHUNKS;
    }

    __device__ __forceinline__ Tile(const Source& source, int first)
        : source(source), first(first) {
        if (!Source::WIDE) return;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            lines[i] = source.line(first + line_of(threadIdx.x + i * THREADS));
        }
    }

    // Begins the copies of the tile from k on.
    __device__ __forceinline__ void load(int k, real* shared) const {
        typename Source::Base base = source.base(k);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            int unit = threadIdx.x + i * THREADS;
            if (!EXACT && unit >= UNITS) break;
            real* to = shared + unit / CHUNKS * PITCH + unit % CHUNKS * PACK;
            if (Source::WIDE) {
                Found f = source.find(lines[i], base, k_of(i));
                copy_later(to, source.data + (f.exists ? f.at : 0), f.exists);
                continue;
            }
#pragma unroll 1
            for (int q = 0; q < PACK; q++) {
                int line = line_of(unit) + (Source::ALONG_K ? 0 : q);
                Found f = source.find(source.line(first + line), base,
                                      k_of(i) + (Source::ALONG_K ? q : 0));
                if (f.exists) to[q] = source.data[f.at];
                else to[q] = 0.f;
            }
        }
    }

    // STEP_K values of k and, for the left factor, 16 lines from `line` on, as the instruction
    // takes them; for the right one the columns of two instructions, each two words.
    template <bool LEFT>
    static __device__ __forceinline__ void fragment(unsigned (&to)[4], const real* shared,
                                                    int line, int k) {
        constexpr int HALF = STEP_K / 2;
        int lane = threadIdx.x % 32;
        if (BF16 || Source::ALONG_K) {
            int matrix = lane / 8;
            line += (LEFT ? matrix % 2 : matrix / 2) * 8;
            k += (LEFT ? matrix / 2 : matrix % 2) * HALF;
            const real* row = Source::ALONG_K ? shared + (line + lane % 8) * PITCH + k
                                              : shared + (k + lane % 8) * PITCH + line;
            load_matrices<!Source::ALONG_K>(to, row);
        } else {
            const real* own = shared + (k + lane % 4) * PITCH + line + lane / 4;
#pragma unroll
            for (int m = 0; m < 4; m++) {
                int lines = (LEFT ? m % 2 : m / 2) * 8, further = (LEFT ? m / 2 : m % 2) * HALF;
                to[m] = bits_of(own[further * PITCH + lines]);
            }
        }
#pragma unroll
        for (int m = 0; m < 4; m++) to[m] = taken(to[m]);
    }
};

// The sums of one thread, and where they stand in the product.
struct Sums {
    float at[WARP_LINES / 16][WARP_COLUMNS / 8][4];

    // Of sums 0 and 1 of an instruction; 2 and 3 are 8 lines further.
    static __device__ __forceinline__ int line(int i) {
        int warp = threadIdx.x / 32 / TILE_WARPS_N;
        return warp * WARP_LINES + i * 16 + threadIdx.x % 32 / 4;
    }
    static __device__ __forceinline__ int column(int j) {
        int warp = threadIdx.x / 32 % TILE_WARPS_N;
        return warp * WARP_COLUMNS + j * 8 + threadIdx.x % 4 * 2;
    }

    // The same as groups of TOGETHER neighbouring columns: DOWN lines of ACROSS groups.
    static constexpr int DOWN = WARP_LINES / 8, ACROSS = WARP_COLUMNS / 8;
    static __device__ __forceinline__ int group_line(int i) { return line(i / 2) + i % 2 * 8; }
    static __device__ __forceinline__ int group_column(int j) { return column(j); }
    __device__ __forceinline__ const float* group(int i, int j) const {
        return &at[i / 2][j][i % 2 * 2];
    }
};

template <class LeftTile, class RightTile>
__device__ __forceinline__ void multiply(const real* left, const real* right, Sums& sums) {
    int first_line = threadIdx.x / 32 / TILE_WARPS_N * WARP_LINES;
    int first_column = threadIdx.x / 32 % TILE_WARPS_N * WARP_COLUMNS;
#pragma unroll
    for (int k = 0; k < DEPTH; k += STEP_K) {
        unsigned a[WARP_LINES / 16][4], b[WARP_COLUMNS / 16][4];
#pragma unroll
        for (int i = 0; i < WARP_LINES / 16; i++) {
            LeftTile::template fragment<true>(a[i], left, first_line + i * 16, k);
        }
#pragma unroll
        for (int j = 0; j < WARP_COLUMNS / 16; j++) {
            RightTile::template fragment<false>(b[j], right, first_column + j * 16, k);
        }
#pragma unroll
        for (int i = 0; i < WARP_LINES / 16; i++) {
#pragma unroll
            for (int j = 0; j < WARP_COLUMNS / 8; j++) {
                const unsigned* words = &b[j / 2][j % 2 * 2];
                if (BF16) multiply_add_bf16(sums.at[i][j], a[i], words[0], words[1]);
                else multiply_add_tf32(sums.at[i][j], a[i], words[0], words[1]);
            }
        }
    }
}

// sums = left * right over k in [begin, end), as in product.cuh. `shared` has SHARED_BYTES.
template <class Left, class Right>
__device__ __forceinline__ void product(const Left& left_source, int first_line,
                                        const Right& right_source, int first_column, int begin,
                                        int end, void* shared, Sums& sums) {
    using LeftTile = Tile<Left, LINES>;
    using RightTile = Tile<Right, COLUMNS>;
    constexpr int BYTES = STAGES * (LeftTile::VALUES + RightTile::VALUES) * sizeof(real);
    static_assert(BYTES <= TILE_SHARED, "shared");
    LeftTile left(left_source, first_line);
    RightTile right(right_source, first_column);
    real* shared_left = static_cast<real*>(shared);
    real* shared_right = shared_left + STAGES * LeftTile::VALUES;
#pragma unroll
    for (int i = 0; i < WARP_LINES / 16; i++) {
#pragma unroll
        for (int j = 0; j < WARP_COLUMNS / 8; j++) {
#pragma unroll
            for (int q = 0; q < 4; q++) sums.at[i][j][q] = 0.f;
        }
    }

    // A group of copies for every stage, with nothing in it beyond the end.
    int loaded = begin;
    auto load = [&](int stage) {
        if (loaded < end) {
            left.load(loaded, shared_left + stage * LeftTile::VALUES);
            right.load(loaded, shared_right + stage * RightTile::VALUES);
        }
        loaded += DEPTH;
        commit_copies();
    };
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) load(stage);
    int now = 0;
    for (int k = begin; k < end; k += DEPTH) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // all copies of this stage are there, and all have left the one before
        int next = now == 0 ? STAGES - 1 : now - 1;
        load(next);
        multiply<LeftTile, RightTile>(shared_left + now * LeftTile::VALUES,
                                      shared_right + now * RightTile::VALUES, sums);
        now = now + 1 == STAGES ? 0 : now + 1;
    }
}

// Neighbouring columns that are written at once.
constexpr int TOGETHER = 2;
__device__ __forceinline__ void load_together(const float* from, float (&v)[TOGETHER]) {
    float2 both = load2(from);
    v[0] = both.x, v[1] = both.y;
}
__device__ __forceinline__ void store_together(float* to, const float (&v)[TOGETHER]) {
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
}
__device__ __forceinline__ void store_together(bfloat16* to, const float (&v)[TOGETHER]) {
    *reinterpret_cast<unsigned*>(to) = to_bf16x2(v[0], v[1]);
}

using Shared = void;
#ifdef STANDIN
#define SHARED_MEMORY(name) __shared__ __align__(128) char name[TILE_SHARED]
#else
#define SHARED_MEMORY(name) extern __shared__ __align__(128) char name[]
#endif
