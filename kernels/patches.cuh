// Windows of a map as rows of a matrix, without that matrix: where element k of window m lies.
//
// Maps are [image][y][x][channel]. A window falls into runs of floats that are contiguous in
// memory, and k counts through the runs: with all channels in one group, a run is a whole row of
// the window (kernel width x channels); with several groups, it is one pixel's channels of the
// group. Runs are padded to whole packs where that allows 16-byte reads (conv1 in f32: 33 to 36).
// Elements outside the map are 0.
#pragma once
#include "real.cuh"

// A window of TAP_ROWS x TAPS pixels that moves over a map H x W x C by MOVE, starting at
// (-TOP, -LEFT). UP > 1: the map is spread out with UP - 1 zeros between its pixels (the gradient
// of a strided convolution). GROUP_C: channels of one group.
template <int H_, int W_, int C_, int GROUP_C_, int TAP_ROWS_, int TAPS_, int MOVE_, int UP_,
          int TOP_, int LEFT_, bool WHOLE_ROWS>
struct Windows {
    static constexpr int H = H_, W = W_, C = C_, TAPS = TAPS_, MOVE = MOVE_, UP = UP_;
    static constexpr int TOP = TOP_, LEFT = LEFT_;
    static constexpr bool ROWS = WHOLE_ROWS && GROUP_C_ == C && UP == 1;
    static constexpr int RUNS = ROWS ? TAP_ROWS_ : TAP_ROWS_ * TAPS;
    static constexpr int RUN = ROWS ? TAPS * C : GROUP_C_;
    static constexpr bool WIDE =
        ROWS ? MOVE * C % PACK == 0 && LEFT * C % PACK == 0 && W * C % PACK == 0
             : C % PACK == 0 && GROUP_C_ % PACK == 0;
    static constexpr int STEP = WIDE ? (RUN + PACK - 1) / PACK * PACK : RUN;
    static constexpr int K = RUNS * STEP;

    // No window begins outside of the map (conv1): the test of an element needs no addition.
    static constexpr bool CORNER = UP == 1 && TOP <= 0 && LEFT <= 0;

    // A window: the offset of its first float (may lie outside of the map), and its place; with
    // CORNER, y and column are how many rows and floats the map has from there on.
    struct Place {
        int offset, y, column;  // column: in floats, x * C
    };

    // The window at (oy, ox) of `image`; y far outside where there is none.
    static __device__ __forceinline__ Place place(int image, int oy, int ox, bool exists) {
        Place p;
        int top = oy * MOVE - TOP;
        p.y = exists ? top : -(1 << 28);
        p.column = (ox * MOVE - LEFT) * C;
        // Only where there is one: a place beyond all images may lie beyond an int, too.
        p.offset =
            exists ? (image * H + (UP == 1 ? top : 0)) * W * C + (UP == 1 ? p.column : 0) : 0;
        if (CORNER) p.y = exists ? H - p.y : 0, p.column = W * C - p.column;
        return p;
    }

    // Element k of a window: which run, and the rest within it.
    struct Element {
        int row, column, offset;  // added to the window's
        bool exists;
    };
    static __device__ __forceinline__ Element element(int k) {
        int run = k / STEP, rest = k % STEP;
        Element e;
        e.row = ROWS ? run : run / TAPS;
        e.column = ROWS ? rest : run % TAPS * C + rest;
        e.offset = e.row * W * C + e.column;
        e.exists = k < K;
        if (CORNER && K % DEPTH != 0 && !e.exists) e.row = 1 << 28;  // below every map
        return e;
    }

    // Element k + d, where `base` is element k and a tile of DEPTH elements begins at k. If tiles
    // never leave a run, that is an addition, and `base` is the same for the whole block.
    static __device__ __forceinline__ Element element(Element base, int k, int d) {
        if (STEP % DEPTH != 0) return element(k + d);
        base.column += d;
        base.offset += d;
        return base;
    }

    // The element of the window in memory. `group` is the first channel of the group.
    static __device__ __forceinline__ Found find(Place p, Element e, int group) {
        bool exists = K % DEPTH == 0 || e.exists;
        if (CORNER) {
            return {p.offset + e.offset + group, e.row < p.y && e.column < p.column};
        }
        int y = p.y + e.row, column = p.column + e.column;
        if (UP == 1) {
            return {p.offset + e.offset + group,
                    unsigned(y) < unsigned(H) && unsigned(column) < unsigned(W * C) && exists};
        }
        int rest = e.column % C, x = (column - rest) / C;
        return {p.offset + ((y / UP) * W + x / UP) * C + rest + group,
                y >= 0 && x >= 0 && y % UP == 0 && x % UP == 0 && y / UP < H && x / UP < W &&
                    exists};
    }
};

// ---- the shapes of a convolution, from the host's constants -------------------------------------

constexpr int GROUP_IN = IN_C / GROUPS, GROUP_OUT = OUT_C / GROUPS;
constexpr int PLACES = OUT_H * OUT_W;
constexpr int WEIGHT_ROWS = KERNEL_H * KERNEL_W * GROUP_IN;  // of OUT_C weights each
#ifndef REAL_C
#define REAL_C GROUP_IN  // of the channels of a group, those that are not there to fill packs
#endif

// The windows of the input that the output is made of ...
using Input = Windows<IN_H, IN_W, IN_C, GROUP_IN, KERNEL_H, KERNEL_W, STRIDE, 1, PAD_TOP, PAD_LEFT,
                      true>;
// ... and those of the output's gradient that the input's gradient is made of: the kernel turned by
// 180 degrees. For a local layer every place has weights of its own, so a run is one pixel.
using Gradient = Windows<OUT_H, OUT_W, OUT_C, GROUP_OUT, KERNEL_H, KERNEL_W, 1, STRIDE,
                         KERNEL_H - 1 - PAD_TOP, KERNEL_W - 1 - PAD_LEFT, !LOCAL>;

// Whether reads of a pack, and writes of 16 bytes or of two values, are possible.
constexpr bool WIDE_OUT = OUT_C % PACK == 0 && GROUP_OUT % PACK == 0;
constexpr bool WIDE_IN = IN_C % PACK == 0 && GROUP_IN % PACK == 0;
