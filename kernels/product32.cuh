// The tiled matrix product in f32 (product.cuh).
//
// A block computes a tile of LINES x COLUMNS sums over k. Its warps stand WARPS_M x WARPS_N, the
// lanes of a warp 8 x 4, and a thread owns THREAD_M x THREAD_N sums in registers. Both factors go
// through shared memory, DEPTH values of k at a time, in two buffers: while one is multiplied, the
// next is on its way from global memory into registers. Every sum runs over k in rising order.
//
// The host chooses the tile (src/gpu/product.rs) and gives it as constants.
#pragma once
#include "real.cuh"

constexpr int LINES = TILE_WARPS_M * 8 * TILE_THREAD_M;
constexpr int COLUMNS = TILE_WARPS_N * 4 * TILE_THREAD_N;
constexpr int THREADS = TILE_WARPS_M * TILE_WARPS_N * 32;
// Of 256 threads two blocks must find room on a multiprocessor, with 128 registers each. For
// compute capability 10.0 and later ptxas spills some of them (12.0: 8 to 48 bytes in 8 of the
// paper's 10 such products), so there it is one block; with NVRTC 13.5 a few for older GPUs, too,
// but not where half as much of k is on its way to shared memory.
constexpr bool FULL = THREADS >= 256;
#if __CUDA_ARCH__ >= 1000
constexpr int BLOCKS = 1, DEPTH = TILE_DEPTH;
#elif __CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1303
constexpr int BLOCKS = FULL ? 2 : 1, DEPTH = FULL ? TILE_DEPTH / 2 : TILE_DEPTH;
#else
constexpr int BLOCKS = FULL ? 2 : 1, DEPTH = TILE_DEPTH;
#endif
static_assert(DEPTH % 8 == 0 && TILE_THREAD_M % 4 == 0 && TILE_THREAD_N % 4 == 0, "tile");

__device__ __forceinline__ float4 read4(const float* p, Found f) {
    return f.exists ? load4(p + f.at) : make_float4(0.f, 0.f, 0.f, 0.f);
}

// A tile of one factor, DEPTH x SPAN, on its way from global to shared memory.
//
// Where 4 neighbours are contiguous along k they are transposed on the way.
template <class Source, int SPAN> struct Tile {
    // Transposing stores meet different banks if rows are 4 more than a multiple of 8 apart; others
    // if rows follow each other without a gap, or 8 lanes never cross from one row into the next.
    static constexpr int PITCH = SPAN + (Source::ALONG_K || SPAN % 32 == 0 ? 4 : 0);
    static constexpr bool WIDE = Source::WIDE;
    static constexpr int UNITS = DEPTH * SPAN / (WIDE ? 4 : 1);
    static constexpr int COUNT = (UNITS + THREADS - 1) / THREADS;  // units of one thread
    static constexpr bool EXACT = UNITS % THREADS == 0;

    const Source& source;
    typename Source::Line lines[COUNT];
    float4 wide[WIDE ? COUNT : 1];
    float single[WIDE ? 1 : COUNT];

    // Which line and which k (within the tile) a unit is. Along k, two neighbouring lanes read 32
    // contiguous bytes, and the 16 lines of a warp fall into different banks when stored. Along the
    // line, 8 lanes read 128 contiguous bytes, and a thread's units share few values of k.
    static constexpr bool BLOCKS_OF_8 = WIDE && SPAN % 32 == 0;
    static __device__ __forceinline__ int line_of(int unit) {
        if (Source::ALONG_K) return WIDE ? unit % (SPAN * 2) / 2 : unit / DEPTH;
        if (BLOCKS_OF_8) return (unit / (8 * DEPTH) * 8 + unit % 8) * 4;
        return WIDE ? unit % (SPAN / 4) * 4 : unit % SPAN;
    }
    // Of the thread's unit i. Where rows of units and threads are multiples of each other this is
    // written so that the compiler sees which units have the same k, and decodes it once for all.
    static __device__ __forceinline__ int k_of(int i) {
        int unit = threadIdx.x + i * THREADS;
        if (Source::ALONG_K && WIDE && SPAN * 2 % THREADS == 0) {
            return i * THREADS / (SPAN * 2) * 8 + threadIdx.x % 2 * 4;
        }
        if (Source::ALONG_K) return WIDE ? unit / (SPAN * 2) * 8 + unit % 2 * 4 : unit % DEPTH;
        if (!Source::ALONG_K && BLOCKS_OF_8 && 8 * DEPTH % THREADS == 0) {
            return i * THREADS % (8 * DEPTH) / 8 + threadIdx.x / 8;
        }
        if (BLOCKS_OF_8 && THREADS % (8 * DEPTH) == 0) return threadIdx.x % (8 * DEPTH) / 8;
        if (BLOCKS_OF_8) return unit % (8 * DEPTH) / 8;
        return WIDE ? unit / (SPAN / 4) : unit / SPAN;
    }

    __device__ __forceinline__ Tile(const Source& source, int first) : source(source) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            lines[i] = source.line(first + line_of(threadIdx.x + i * THREADS));
        }
    }

    __device__ __forceinline__ void load(int k) {
        typename Source::Base base = source.base(k);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            int unit = threadIdx.x + i * THREADS;
            if (!EXACT && unit >= UNITS) break;
            Found f = source.find(lines[i], base, k_of(i));
            if (WIDE) wide[i] = read4(source.data, f);
            else single[i] = f.exists ? source.data[f.at] : 0.f;
        }
    }

    __device__ __forceinline__ void store(float* shared) const {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            int unit = threadIdx.x + i * THREADS;
            if (!EXACT && unit >= UNITS) break;
            float* to = shared + k_of(i) * PITCH + line_of(unit);
            if (!WIDE) {
                to[0] = single[i];
                continue;
            }
            float4 v = wide[i];
            if (Source::ALONG_K) {
                to[0] = v.x;
                to[PITCH] = v.y;
                to[2 * PITCH] = v.z;
                to[3 * PITCH] = v.w;
            } else {
                store4(to, v);
            }
        }
    }
};

// The sums of one thread, and where they stand in the product.
struct Sums {
    float at[TILE_THREAD_M][TILE_THREAD_N];

    static __device__ __forceinline__ int line(int i) {
        int warp = threadIdx.x / 32 / TILE_WARPS_N;
        return warp * 8 * TILE_THREAD_M + i / 4 * 32 + threadIdx.x % 8 * 4 + i % 4;
    }
    static __device__ __forceinline__ int column(int j) {
        int warp = threadIdx.x / 32 % TILE_WARPS_N;
        return warp * 4 * TILE_THREAD_N + j / 4 * 16 + threadIdx.x % 32 / 8 * 4 + j % 4;
    }

    // The same as groups of TOGETHER neighbouring columns: DOWN lines of ACROSS groups.
    static constexpr int DOWN = TILE_THREAD_M, ACROSS = TILE_THREAD_N / 4;
    static __device__ __forceinline__ int group_line(int i) { return line(i); }
    static __device__ __forceinline__ int group_column(int j) { return column(4 * j); }
    __device__ __forceinline__ const float* group(int i, int j) const { return &at[i][4 * j]; }
};

template <int PITCH_M, int PITCH_N>
__device__ __forceinline__ void multiply(const float* left, const float* right, Sums& sums) {
    const float* from_left = left + Sums::line(0);
    const float* from_right = right + Sums::column(0);
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        float a[TILE_THREAD_M], b[TILE_THREAD_N];
#pragma unroll
        for (int i = 0; i < TILE_THREAD_M; i += 4) {
            float4 v = load4(from_left + k * PITCH_M + i / 4 * 32);
            a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
        }
#pragma unroll
        for (int j = 0; j < TILE_THREAD_N; j += 4) {
            float4 v = load4(from_right + k * PITCH_N + j / 4 * 16);
            b[j] = v.x, b[j + 1] = v.y, b[j + 2] = v.z, b[j + 3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < TILE_THREAD_M; i++) {
#pragma unroll
            for (int j = 0; j < TILE_THREAD_N; j++) {
                sums.at[i][j] = fmaf(a[i], b[j], sums.at[i][j]);
            }
        }
    }
}

// sums = left * right over k in [begin, end); `begin` and, save for the last part, `end` are
// multiples of DEPTH, and sources give 0 beyond their last k.
// `shared` holds two buffers of the left factor, then two of the right.
template <class Left, class Right>
__device__ __forceinline__ void product(const Left& left_source, int first_line,
                                        const Right& right_source, int first_column, int begin,
                                        int end, float* shared, Sums& sums) {
    using LeftTile = Tile<Left, LINES>;
    using RightTile = Tile<Right, COLUMNS>;
    constexpr int LEFT_FLOATS = DEPTH * LeftTile::PITCH, RIGHT_FLOATS = DEPTH * RightTile::PITCH;
    LeftTile left(left_source, first_line);
    RightTile right(right_source, first_column);
    float* shared_left = shared;
    float* shared_right = shared + 2 * LEFT_FLOATS;
#pragma unroll
    for (int i = 0; i < TILE_THREAD_M; i++) {
#pragma unroll
        for (int j = 0; j < TILE_THREAD_N; j++) sums.at[i][j] = 0;
    }

    left.load(begin);
    right.load(begin);
    left.store(shared_left);
    right.store(shared_right);
    __syncthreads();
    int now = 0;
    for (int k = begin; k < end; k += DEPTH) {
        bool more = k + DEPTH < end;
        if (more) {
            left.load(k + DEPTH);
            right.load(k + DEPTH);
        }
        const float* now_left = shared_left + now * LEFT_FLOATS;
        const float* now_right = shared_right + now * RIGHT_FLOATS;
        multiply<LeftTile::PITCH, RightTile::PITCH>(now_left, now_right, sums);
        now ^= 1;
        if (more) {
            left.store(shared_left + now * LEFT_FLOATS);
            right.store(shared_right + now * RIGHT_FLOATS);
        }
        __syncthreads();
    }
}

constexpr int GAP = 4;  // at most, between the rows of a tile
constexpr int SHARED_FLOATS = 2 * DEPTH * (LINES + GAP + COLUMNS + GAP);

using Shared = float;
#define SHARED_MEMORY(name) __shared__ __align__(16) float name[SHARED_FLOATS]

// Neighbouring columns that are written at once.
constexpr int TOGETHER = 4;
__device__ __forceinline__ void load_together(const float* from, float (&v)[TOGETHER]) {
    float4 all = load4(from);
    v[0] = all.x, v[1] = all.y, v[2] = all.z, v[3] = all.w;
}
__device__ __forceinline__ void store_together(float* to, const float (&v)[TOGETHER]) {
    store4(to, make_float4(v[0], v[1], v[2], v[3]));
}
