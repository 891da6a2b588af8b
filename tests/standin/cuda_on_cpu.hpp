// What a CUDA compiler supplies, for a .cu file that is compiled as C++: the built-in variables,
// the keywords, barriers and shuffles. The NVRTC stand-in puts this header in front of the source.
// Every CUDA thread is a fiber of the driver stand-in (run.hpp), which this header reaches through
// the table `Runtime`.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

namespace standin {

/// What a kernel may ask of the driver stand-in.
struct Runtime {
    uint3 thread, block;  // of the fiber that runs now
    dim3 threads, blocks;
    void (*barrier)();
    uint32_t (*shuffle)(uint32_t value, unsigned source_lane);
    void (*access)(const void* address, unsigned size, const void* place, bool write);
    void (*copy)(void* shared, unsigned size, bool begins);
};

/// One `__global__` function: its name and how to call it from cuLaunchKernel's parameter list.
struct Kernel {
    const char* name;
    void (*call)(void (*function)(), void* const* parameters);
    void (*function)();
    const size_t* sizes;  // bytes of each parameter
    size_t count;
    Kernel* next;
    unsigned most_threads;  // of a block, by its launch bounds
};

}  // namespace standin

#ifndef STANDIN_HOST  // the rest is for kernels only
extern "C" {
standin::Runtime* standin_runtime;
standin::Kernel* standin_kernels;
// Where this object's __shared__ variables lie, so that they can be poisoned before every block.
extern char __start_standin_shared[] __attribute__((weak));
extern char __stop_standin_shared[] __attribute__((weak));
char* standin_shared_begin() { return __start_standin_shared; }
char* standin_shared_end() { return __stop_standin_shared; }
}

namespace standin {

template <class... Types> struct Register {
    static constexpr size_t sizes[sizeof...(Types) + 1] = {sizeof(Types)..., 0};
    Kernel kernel;
    template <size_t... I> struct Indices {};
    template <size_t N, size_t... I> struct Count : Count<N - 1, N - 1, I...> {};
    template <size_t... I> struct Count<0, I...> { using type = Indices<I...>; };
    template <size_t... I>
    static void spread(void (*function)(Types...), void* const* p, Indices<I...>) {
        function(*static_cast<Types*>(p[I])...);
    }
    static void call(void (*function)(), void* const* p) {
        spread(reinterpret_cast<void (*)(Types...)>(function), p,
               typename Count<sizeof...(Types)>::type());
    }
    Register(const char* name, void (*function)(Types...), unsigned most_threads)
        : kernel{name, call, reinterpret_cast<void (*)()>(function), sizes, sizeof...(Types),
                 standin_kernels, most_threads} {
        standin_kernels = &kernel;
    }
};
template <class... Types>
Register(const char*, void (*)(Types...), unsigned) -> Register<Types...>;
/// Of `__launch_bounds__`: the threads of a block.
template <class... Rest> constexpr unsigned first_bound(unsigned threads, Rest...) {
    return threads;
}

template <class T> T shuffle(T value, unsigned lane) {
    static_assert(sizeof(T) == 4, "the stand-in shuffles 32-bit values");
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = standin_runtime->shuffle(bits, lane);
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned lane() {
    const Runtime& r = *standin_runtime;
    return (r.thread.x + r.threads.x * (r.thread.y + r.threads.y * r.thread.z)) % 32;
}

}  // namespace standin

#ifdef __SANITIZE_THREAD__
// The compiler calls these at every access. They count (accesses.hpp), or find races of threads on
// a GPU (blocks.hpp).
#define STANDIN_HOOK(name, size, write)                                                 \
    extern "C" __attribute__((no_sanitize("thread"))) void __tsan_##name(const void* p) { \
        if (standin_runtime) /* not yet while the object is loaded */                   \
            standin_runtime->access(p, size, __builtin_return_address(0), write);       \
    }
#define STANDIN_HOOKS(size)                                                       \
    STANDIN_HOOK(read##size, size, false) STANDIN_HOOK(write##size, size, true)   \
    STANDIN_HOOK(unaligned_read##size, size, false)                               \
    STANDIN_HOOK(unaligned_write##size, size, true)
STANDIN_HOOKS(1) STANDIN_HOOKS(2) STANDIN_HOOKS(4) STANDIN_HOOKS(8) STANDIN_HOOKS(16)
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
#endif

#define threadIdx (standin_runtime->thread)
#define blockIdx (standin_runtime->block)
#define blockDim (standin_runtime->threads)
#define gridDim (standin_runtime->blocks)

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
// One block runs at a time, so a block's memory is a static variable.
#define __shared__ static __attribute__((section("standin_shared")))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#ifdef STANDIN_DROP_BARRIERS  // a planted fault
#define __syncthreads() ((void)0)
#else
#define __syncthreads() standin_runtime->barrier()
#endif

// 16-byte and 8-byte accesses stay so wide and aligned, as on the GPU.
typedef float standin_vector4 __attribute__((vector_size(16), may_alias));
struct __align__(16) float4 {
    float x, y, z, w;
    float4() = default;
    float4(float x, float y, float z, float w) : x(x), y(y), z(z), w(w) {}
    float4(const float4& o) { *this = o; }
    float4& operator=(const float4& o) {
        *reinterpret_cast<standin_vector4*>(this) = *reinterpret_cast<const standin_vector4*>(&o);
        return *this;
    }
};
typedef float standin_vector2 __attribute__((vector_size(8), may_alias));
struct __align__(8) float2 {
    float x, y;
    float2() = default;
    float2(float x, float y) : x(x), y(y) {}
    float2(const float2& o) { *this = o; }
    float2& operator=(const float2& o) {
        *reinterpret_cast<standin_vector2*>(this) = *reinterpret_cast<const standin_vector2*>(&o);
        return *this;
    }
};
inline float4 make_float4(float x, float y, float z, float w) { return float4(x, y, z, w); }

template <class T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return standin::shuffle(value, standin::lane() ^ mask);
}
template <class T> T __shfl_down_sync(unsigned, T value, unsigned delta) {
    unsigned lane = standin::lane();
    return standin::shuffle(value, lane + delta < 32 ? lane + delta : lane);
}
template <class T> T __shfl_sync(unsigned, T value, int source) {
    return standin::shuffle(value, source % 32);
}

inline void __syncwarp(unsigned = 0xffffffffu) { standin::shuffle(0u, standin::lane()); }

#define STANDIN  // what is written in PTX has a C++ form here
namespace standin {
/// cvt.rna.tf32.f32: to 10 bits behind the point, halves away from zero; what is not finite stays.
inline float to_tf32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits >> 23 & 255) != 255) bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline float of_bits(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
/// cvt.rn.bf16x2.f32: to nearest, halves to even; the first value in the low half.
inline unsigned to_bf16x2(float low, float high) {
    auto round = [](float value) {
        unsigned bits = bits_of(value);
        return value != value ? 0x7fffu : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    };
    return round(low) | round(high) << 16;
}
inline unsigned thread_of_block() {
    const Runtime& r = *standin_runtime;
    return r.thread.x + r.threads.x * (r.thread.y + r.threads.y * r.thread.z);
}
/// mma.sync.m16n8k8 for TF32: exact products, summed in double and rounded once (on a GPU the order
/// within an instruction, and its rounding, are not specified). A shuffle is what all lanes of the
/// warp have to reach: the first says that all have given their values, the second that all have
/// taken what they need. A value that is not rounded to TF32 is a fault of the kernel.
inline void multiply_add_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    static float given[32][32][6];  // [warp][lane]; one block runs at a time
    auto& warp = given[thread_of_block() / 32];
    const unsigned own[6] = {a[0], a[1], a[2], a[3], b0, b1};
    for (unsigned i = 0; i < 6; i++) {
        if (own[i] & 0x1fff) __builtin_trap();
        warp[lane()][i] = of_bits(own[i]);
    }
    shuffle(0u, lane());
    for (unsigned m = 0; m < 2; m++) {
        for (unsigned n = 0; n < 2; n++) {
            double total = c[2 * m + n];
            for (unsigned half = 0; half < 2; half++) {
                for (unsigned q = 0; q < 4; q++) {
                    const float* left = warp[lane() / 4 * 4 + q];
                    const float* right = warp[(lane() % 4 * 2 + n) * 4 + q];
                    total += double(left[2 * half + m]) * right[4 + half];
                }
            }
            c[2 * m + n] = float(total);
        }
    }
    shuffle(0u, lane());
}
/// mma.sync.m16n8k16 for bfloat16, as above.
inline void multiply_add_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    static unsigned given[32][32][6];  // [warp][lane]
    auto& warp = given[thread_of_block() / 32];
    const unsigned own[6] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(warp[lane()], own, sizeof own);
    shuffle(0u, lane());
    for (unsigned m = 0; m < 2; m++) {
        for (unsigned n = 0; n < 2; n++) {
            double total = c[2 * m + n];
            for (unsigned k = 0; k < 16; k++) {
                const unsigned* left = warp[lane() / 4 * 4 + k % 8 / 2];
                const unsigned* right = warp[(lane() % 4 * 2 + n) * 4 + k % 8 / 2];
                unsigned shift = k % 2 ? 0 : 16, mask = 0xffff0000u;
                float of_left = of_bits(left[m + k / 8 * 2] << shift & mask);
                total += double(of_left) * of_bits(right[4 + k / 8] << shift & mask);
            }
            c[2 * m + n] = float(total);
        }
    }
    shuffle(0u, lane());
}
/// ldmatrix.x4: every lane names a row of 16 bytes.
template <bool TURNED> void load_matrices(unsigned (&to)[4], const void* row) {
    static const uint16_t* rows[32][32];  // [warp][lane]
    auto& warp = rows[thread_of_block() / 32];
    if (reinterpret_cast<uintptr_t>(row) % 16) __builtin_trap();
    warp[lane()] = static_cast<const uint16_t*>(row);
    shuffle(0u, lane());
    unsigned r = lane() / 4, q = lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        const uint16_t* const* matrix = warp + 8 * i;
        to[i] = TURNED ? matrix[2 * q][r] | unsigned(matrix[2 * q + 1][r]) << 16
                       : matrix[r][2 * q] | unsigned(matrix[r][2 * q + 1]) << 16;
    }
    shuffle(0u, lane());
}

/// cp.async: a copy is done when its thread waits for its group, and no sooner.
struct Copies {
    static constexpr unsigned MOST = 256;
    struct { void* to; const void* from; bool exists; } copy[MOST];
    unsigned group[MOST];  // the number of copies when a group was committed
    unsigned copies, groups, done, groups_done;
};
inline Copies& own_copies() {
    static Copies all[1024];
    return all[thread_of_block()];
}
inline void copy_later(void* shared, const void* global, bool exists) {
    Copies& c = own_copies();
    if (reinterpret_cast<uintptr_t>(shared) % 16 || c.copies - c.done == c.MOST) __builtin_trap();
    if (reinterpret_cast<uintptr_t>(global) % 16) __builtin_trap();
    c.copy[c.copies++ % c.MOST] = {shared, global, exists};
    standin_runtime->copy(shared, 16, true);
}
inline void commit_copies() {
    Copies& c = own_copies();
    c.group[c.groups++ % c.MOST] = c.copies;
}
template <int PENDING> void wait_for_copies() {
    Copies& c = own_copies();
    for (; c.groups - c.groups_done > PENDING; c.groups_done++) {
        for (unsigned end = c.group[c.groups_done % c.MOST]; c.done != end; c.done++) {
            auto copy = c.copy[c.done % c.MOST];
            standin_runtime->copy(copy.to, 16, false);
            // What does not exist is read all the same, and left: where accesses are counted a
            // warp's requests then stay together.
            standin_vector4 values = *static_cast<const standin_vector4*>(copy.from);
            *static_cast<standin_vector4*>(copy.to) =
                copy.exists ? values : standin_vector4{0, 0, 0, 0};
        }
    }
}
}  // namespace standin

inline float2 make_float2(float x, float y) { return float2(x, y); }
inline float __fmul_rn(float a, float b) { return a * b; }  // compiled with -ffp-contract=off
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
template <class T> T __ldg(const T* p) { return *p; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
#endif
