// The selective scan of one block of 16 channels, fused: step sizes, decays, walks and their sum.
//
// Channels lie in vector lanes and the states of a channel in as many vectors, so that a step of
// the recurrence needs no sum over lanes. The walk goes in chunks: x and dt of a chunk are gathered,
// then the states take its steps group by group. The backward pass makes the states of a chunk again
// from the one kept at its start and walks back. Nothing of size pixel x channel x state is stored.
//
// Plain C interface; GCC or Clang (vector extensions). Built by cpp_build.py, loaded by cpp.py.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

extern "C" {

// Mirrors pixelssr_geo.nets.scan.cpp._Scan; axes as in ScanProblem, all float32 and contiguous.
struct Scan {
    const float *x;         // (batch, pixel, channel)
    const float *low;       // (batch, pixel, low_sets, rank + 2 states)
    const float *w_dt;      // (w_sets, channel, rank)
    const float *a;         // (a_sets, channel, state)
    const float *skip;      // (channel), summed over walks
    const float *bias;      // (bias_sets, channel)
    const int32_t *walks;   // (walk, pixel): pixel of each step
    int64_t pixels, channels, states, rank, directions;
    int64_t low_sets, w_sets, a_sets, bias_sets;
    int64_t chunk;          // steps between two kept states
};

// Mirrors pixelssr_geo.nets.scan.cpp._Gradients; each has room for what one task gives.
struct Gradients {
    float *x;     // (pixel, channel) of the batch item; the task writes its channels
    float *low;   // (pixel, low_sets, rank + 2 states), a part: of this block of channels alone
    float *w_dt;  // (w_sets, channel, rank) of the batch item; the task writes its channels
    float *a;     // (a_sets, channel, state), likewise
    float *skip;  // (channel), likewise
    float *bias;  // (bias_sets, channel), likewise
};
}

namespace {

constexpr int kBlock = 16;  // channels of a task; the same for every width of vectors
constexpr float kLog2e = 1.44269504088896341f;

template <int W>
struct Types {
    typedef float F __attribute__((vector_size(4 * W)));
    typedef uint32_t U __attribute__((vector_size(4 * W)));
};
template <int W>
using Floats = typename Types<W>::F;
template <int W>
using Bits = typename Types<W>::U;  // without a sign, so that sums and shifts may overflow

#define INLINE inline __attribute__((always_inline))
#define RESTRICT __restrict__

template <int W>
INLINE Floats<W> all(float value) {
    return Floats<W>{} + value;
}

template <int W>
INLINE Floats<W> load(const float *from) {
    Floats<W> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <int W>
INLINE void store(float *to, Floats<W> v) {
    std::memcpy(to, &v, sizeof v);
}

// The last block may have fewer channels than lanes; the lanes behind them are 0.
template <int W>
INLINE Floats<W> load(const float *from, int count) {
    if (__builtin_expect(count == W, 1)) return load<W>(from);
    Floats<W> v{};
    for (int j = 0; j < count; ++j) v[j] = from[j];
    return v;
}

template <int W>
INLINE void store(float *to, Floats<W> v, int count) {
    if (__builtin_expect(count == W, 1)) return store<W>(to, v);
    for (int j = 0; j < count; ++j) to[j] = v[j];
}

// The greater; b if one is not a number.
template <int W>
INLINE Floats<W> greater(Floats<W> a, Floats<W> b) {
    return a > b ? a : b;
}

// Compilers do not make the one instruction of it that x86 has.
#if defined(__AVX512F__)
template <>
INLINE Floats<16> greater<16>(Floats<16> a, Floats<16> b) {
    return (Floats<16>)_mm512_max_ps((__m512)a, (__m512)b);
}
#endif
#if defined(__AVX__)
template <>
INLINE Floats<8> greater<8>(Floats<8> a, Floats<8> b) {
    return (Floats<8>)_mm256_max_ps((__m256)a, (__m256)b);
}
#endif
#if defined(__SSE2__)
template <>
INLINE Floats<4> greater<4>(Floats<4> a, Floats<4> b) {
    return (Floats<4>)_mm_max_ps((__m128)a, (__m128)b);
}
#endif

template <int W>
INLINE float sum(Floats<W> v) {
    float total = 0;
    for (int j = 0; j < W; ++j) total += v[j];
    return total;
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(W, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(W, a, b, ...) __builtin_shuffle(a, b, Bits<W>{__VA_ARGS__})
#endif

// Lane j of the result is the sum over the lanes of p[j]. First 128-bit parts are summed crosswise,
// then pairs and single lanes within them: only shuffles that are one cheap instruction.
INLINE Floats<4> quad(Floats<4> a, Floats<4> b, Floats<4> c, Floats<4> d) {
    auto v = SHUFFLE(4, a, b, 0, 1, 4, 5) + SHUFFLE(4, a, b, 2, 3, 6, 7);
    auto w = SHUFFLE(4, c, d, 0, 1, 4, 5) + SHUFFLE(4, c, d, 2, 3, 6, 7);
    return SHUFFLE(4, v, w, 0, 2, 4, 6) + SHUFFLE(4, v, w, 1, 3, 5, 7);
}

INLINE Floats<8> quad(Floats<8> a, Floats<8> b, Floats<8> c, Floats<8> d) {
    auto v = SHUFFLE(8, a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
             SHUFFLE(8, a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    auto w = SHUFFLE(8, c, d, 0, 1, 8, 9, 4, 5, 12, 13) +
             SHUFFLE(8, c, d, 2, 3, 10, 11, 6, 7, 14, 15);
    return SHUFFLE(8, v, w, 0, 2, 8, 10, 4, 6, 12, 14) +
           SHUFFLE(8, v, w, 1, 3, 9, 11, 5, 7, 13, 15);
}

#define EVEN_PAIRS 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define ODD_PAIRS 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define EVEN_LANES 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define ODD_LANES 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#define LOW_HALVES 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH_HALVES 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define EVEN_QUADS 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define ODD_QUADS 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31

INLINE Floats<16> quad(Floats<16> a, Floats<16> b, Floats<16> c, Floats<16> d) {
    auto v = SHUFFLE(16, a, b, EVEN_PAIRS) + SHUFFLE(16, a, b, ODD_PAIRS);
    auto w = SHUFFLE(16, c, d, EVEN_PAIRS) + SHUFFLE(16, c, d, ODD_PAIRS);
    return SHUFFLE(16, v, w, EVEN_LANES) + SHUFFLE(16, v, w, ODD_LANES);
}

INLINE Floats<4> sums(const Floats<4> *p) { return quad(p[0], p[1], p[2], p[3]); }

INLINE Floats<8> sums(const Floats<8> *p) {
    Floats<8> q[4];
    for (int i = 0; i < 4; ++i) {
        q[i] = SHUFFLE(8, p[i], p[i + 4], 0, 1, 2, 3, 8, 9, 10, 11) +
               SHUFFLE(8, p[i], p[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    return quad(q[0], q[1], q[2], q[3]);
}

INLINE Floats<16> sums(const Floats<16> *p) {
    Floats<16> q[4];
    for (int i = 0; i < 4; ++i) {
        auto front = SHUFFLE(16, p[i], p[i + 4], LOW_HALVES) +
                     SHUFFLE(16, p[i], p[i + 4], HIGH_HALVES);
        auto back = SHUFFLE(16, p[i + 8], p[i + 12], LOW_HALVES) +
                    SHUFFLE(16, p[i + 8], p[i + 12], HIGH_HALVES);
        q[i] = SHUFFLE(16, front, back, EVEN_QUADS) + SHUFFLE(16, front, back, ODD_QUADS);
    }
    return quad(q[0], q[1], q[2], q[3]);
}

// Adds to to[i] the sum over the lanes of p[i], for `count` vectors.
template <int W, int count>
INLINE void add_sums(float *to, const Floats<W> *p) {
    if constexpr (count >= W) {
        for (int i = 0; i + W <= count; i += W) store<W>(to + i, load<W>(to + i) + sums(p + i));
    } else {
        for (int i = 0; i < count; ++i) to[i] += sum<W>(p[i]);
    }
}

// 2^(scale * rate), for products that are not positive; below 2^-126, that. Adding and subtracting
// a large number rounds to a multiple of a power of two. What is left over goes into a polynomial
// for 2^f - 1 (of least maximum relative error), the integer part into the exponent, and the
// fraction between them, where vectors can look up a table, into that: entry i holds the bits of
// 2^(i/n) less what the shifted number brings in. The table makes the whole scan a tenth faster.
template <int W>
INLINE Floats<W> power(Floats<W> scale, Floats<W> rate) {
    const Floats<W> magic = all<W>(12582912.0f);  // 1.5 * 2^23: rounds to integers
    Floats<W> t = greater<W>(all<W>(-126.0f), scale * rate);
    Floats<W> r = t + magic;
    Floats<W> f = t - (r - magic);
    Floats<W> p = f * 0.00015353362f + 0.0013398875f;
    p = p * f + 0.009618437f;
    p = p * f + 0.055503324f;
    p = p * f + 0.24022648f;
    p = p * f + 0.69314718f;
    p = p * f + 1.0f;
    return (Floats<W>)((Bits<W>)p + ((Bits<W>)r << 23));
}

#if defined(__AVX512F__)
template <>
INLINE Floats<16> power<16>(Floats<16> scale, Floats<16> rate) {
    const Bits<16> table = {0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532,
                            0x3f75fed7, 0x3f75583f, 0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c,
                            0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d};
    const Floats<16> magic = all<16>(786432.0f);  // 1.5 * 2^19: rounds to sixteenths
    Floats<16> t = greater<16>(all<16>(-126.0f), scale * rate);
    Floats<16> r = t + magic;
    Floats<16> f = t - (r - magic);
    Floats<16> p = f * 0.055502135f + 0.24023429f;
    p = p * f + 0.69314718f;
    p = p * f + 1.0f;
    Bits<16> bits = (Bits<16>)_mm512_permutexvar_epi32((__m512i)r, (__m512i)table);
    return (Floats<16>)(bits + ((Bits<16>)r << 19)) * p;
}
#endif

#if defined(__AVX2__)
template <>
INLINE Floats<8> power<8>(Floats<8> scale, Floats<8> rate) {
    const Bits<8> table = {0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7,
                           0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7};
    const Floats<8> magic = all<8>(1572864.0f);  // 1.5 * 2^20: rounds to eighths
    Floats<8> t = greater<8>(all<8>(-126.0f), scale * rate);
    Floats<8> r = t + magic;
    Floats<8> f = t - (r - magic);
    Floats<8> p = f * 0.055496223f + 0.24025764f;
    p = p * f + 0.69314724f;
    p = p * f + 1.0f;
    Bits<8> bits = (Bits<8>)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)r);
    return (Floats<8>)(bits + ((Bits<8>)r << 20)) * p;
}
#endif

// exp(-|v|), at the root of softplus and its slope
template <int W>
INLINE Floats<W> fall(Floats<W> v) {
    return power<W>(greater<W>(v, -v), all<W>(-kLog2e));
}

// log(1 + exp(v)); log1p(z) = 2 artanh(z / (2 + z)), a polynomial with least maximum relative error
template <int W>
INLINE Floats<W> softplus(Floats<W> v) {
    Floats<W> z = fall<W>(v);
    Floats<W> s = z / (z + 2.0f);
    Floats<W> q = s * s;
    Floats<W> p = q * 0.24413197f + 0.21393219f;
    p = p * q + 0.28620726f;
    p = p * q + 0.39998689f;
    p = p * q + 0.66666681f;
    p = p * q + 2.0f;
    return greater<W>(v, Floats<W>{}) + p * s;
}

template <int W>
INLINE Floats<W> sigmoid(Floats<W> v) {
    Floats<W> z = fall<W>(v);
    return (v >= 0.0f ? all<W>(1.0f) : z) / (z + 1.0f);
}

// Memory of a task; one allocation.
class Scratch {
  public:
    explicit Scratch(int64_t floats) {
        void *memory = nullptr;
        if (posix_memalign(&memory, 64, sizeof(float) * static_cast<size_t>(floats)) == 0) {
            data_ = next_ = static_cast<float *>(memory);
        }
    }
    ~Scratch() { std::free(data_); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    bool there() const { return data_ != nullptr; }
    template <int W>
    Floats<W> *take(int64_t vectors) {
        float *taken = next_;
        next_ += vectors * W;
        return reinterpret_cast<Floats<W> *>(taken);
    }

  private:
    float *data_ = nullptr, *next_ = nullptr;
};

// What both passes share: W channels of one batch item.
template <int W>
struct Task {
    using F = Floats<W>;
    const Scan &p;
    const int64_t item, first;  // batch item, first channel
    const int count;            // channels in use, at most W
    const int64_t row;          // floats of `low` at a pixel and set
    const int64_t chunks;
    const bool one_dt;  // whether all walks have the same step sizes
    F *weights, *a, *powers, *dt, *xs, *us, *ys;
    const float **vectors;  // of each step of the chunk: its B, with C behind
    F bias;

    Task(const Scan &scan, int64_t batch_item, int64_t channel, int channels)
        : p(scan), item(batch_item), first(channel), count(channels),
          row(scan.rank + 2 * scan.states), chunks((scan.pixels + scan.chunk - 1) / scan.chunk),
          one_dt(scan.low_sets == 1 && scan.w_sets == 1 && scan.bias_sets == 1) {}

    // Room for a pointer a step, in vectors.
    static int64_t pointers(const Scan &p) { return (p.chunk * 8 + W * 4 - 1) / (W * 4); }

    static int64_t floats(const Scan &p) {
        return W * (p.rank + 2 * p.states + p.pixels + 3 * p.chunk + pointers(p));
    }

    void place(Scratch &scratch) {
        weights = scratch.take<W>(p.rank);
        a = scratch.take<W>(p.states);
        powers = scratch.take<W>(p.states);
        dt = scratch.take<W>(p.pixels);
        xs = scratch.take<W>(p.chunk);
        us = scratch.take<W>(p.chunk);
        ys = scratch.take<W>(p.chunk);
        vectors = reinterpret_cast<const float **>(scratch.take<W>(pointers(p)));
    }

    const float *low(int64_t set, int64_t pixel) const {
        return p.low + ((item * p.pixels + pixel) * p.low_sets + set) * row;
    }
    const float *channels(const float *image, int64_t pixel) const {
        return image + (item * p.pixels + pixel) * p.channels + first;
    }
    const int32_t *walk(int64_t number) const { return p.walks + number * p.pixels; }
    int64_t steps(int64_t chunk) const {
        int64_t left = p.pixels - chunk * p.chunk;
        return left < p.chunk ? left : p.chunk;
    }

    // Columns of (channel, columns), from the first channel on, as vectors.
    void transpose(const float *from, int64_t columns, F *to) const {
        for (int64_t i = 0; i < columns; ++i) {
            to[i] = F{};
            for (int j = 0; j < count; ++j) to[i][j] = from[(first + j) * columns + i];
        }
    }

    F before_softplus(const float *low_row) const {
        F v = bias;
        for (int64_t r = 0; r < p.rank; ++r) v += weights[r] * low_row[r];
        return v;
    }

    // Reads the parameters of a walk, and makes its step sizes in pixel order.
    void enter(int64_t k) {
        if (k == 0 || p.a_sets > 1) {
            transpose(p.a + k % p.a_sets * p.channels * p.states, p.states, a);
            for (int64_t n = 0; n < p.states; ++n) powers[n] = a[n] * kLog2e;
        }
        if (k > 0 && one_dt) return;
        transpose(p.w_dt + k % p.w_sets * p.channels * p.rank, p.rank, weights);
        bias = load<W>(p.bias + k % p.bias_sets * p.channels + first, count);
        const int64_t set = k % p.low_sets;
        for (int64_t l = 0; l < p.pixels; ++l) dt[l] = softplus<W>(before_softplus(low(set, l)));
    }

    // Gathers what the steps of a chunk need.
    void gather(int64_t k, const int32_t *pixel, int64_t n) {
        const int64_t set = k % p.low_sets;
        for (int64_t t = 0; t < n; ++t) {
            xs[t] = load<W>(channels(p.x, pixel[t]), count);
            us[t] = dt[pixel[t]] * xs[t];
            vectors[t] = low(set, pixel[t]) + p.rank;
        }
    }

    // Where the state before a chunk of a walk is kept, (state, lane).
    float *kept(float *checkpoints, int64_t k, int64_t chunk) const {
        int64_t blocks = (p.channels + kBlock - 1) / kBlock;
        int64_t walks = (item * blocks + first / kBlock) * p.directions + k;
        return checkpoints + (walks * chunks + chunk) * p.states * kBlock +
               first % kBlock * p.states;
    }
};

template <int W>
struct Forward : Task<W> {
    using F = Floats<W>;
    using Task<W>::Task;
    F *state;

    static int64_t floats(const Scan &p) { return Task<W>::floats(p) + W * p.states; }

    void place(Scratch &scratch) {
        Task<W>::place(scratch);
        state = scratch.take<W>(this->p.states);
    }

    // Takes S states from s0 on through the steps of a chunk.
    template <int S>
    void step(const int32_t *pixel, int64_t n, int64_t s0) {
        const F *RESTRICT powers = this->powers + s0;
        F *RESTRICT ys = this->ys;
        F h[S];
        for (int s = 0; s < S; ++s) h[s] = state[s0 + s];
        for (int64_t t = 0; t < n; ++t) {
            const float *b = this->vectors[t] + s0, *c = b + this->p.states;
            const F dt = this->dt[pixel[t]], u = this->us[t];
            F y[2] = {ys[t], F{}};
#pragma GCC unroll 16
            for (int s = 0; s < S; ++s) {
                h[s] = power<W>(dt, powers[s]) * h[s] + u * b[s];
                y[s % 2] += h[s] * c[s];
            }
            ys[t] = y[0] + y[1];
        }
        for (int s = 0; s < S; ++s) state[s0 + s] = h[s];
    }

    void run(float *y, float *checkpoints) {
        const Scan &p = this->p;
        const F skip = load<W>(p.skip + this->first, this->count);
        float *out = y + (this->channels(p.x, 0) - p.x);
        for (int64_t k = 0; k < p.directions; ++k) {
            this->enter(k);
            for (int64_t s = 0; s < p.states; ++s) state[s] = F{};
            for (int64_t chunk = 0; chunk < this->chunks; ++chunk) {
                const int32_t *pixel = this->walk(k) + chunk * p.chunk;
                const int64_t n = this->steps(chunk);
                if (checkpoints) {
                    std::memcpy(this->kept(checkpoints, k, chunk), state, sizeof(F) * p.states);
                }
                this->gather(k, pixel, n);
                for (int64_t t = 0; t < n; ++t) {
                    this->ys[t] = k == 0 ? skip * this->xs[t]
                                         : load<W>(out + pixel[t] * p.channels, this->count);
                }
                int64_t s = 0;
                for (; s + 16 <= p.states; s += 16) step<16>(pixel, n, s);
                for (; s + 4 <= p.states; s += 4) step<4>(pixel, n, s);
                for (; s < p.states; ++s) step<1>(pixel, n, s);
                for (int64_t t = 0; t < n; ++t) {
                    store<W>(out + pixel[t] * p.channels, this->ys[t], this->count);
                }
            }
        }
    }
};

template <int W>
struct Backward : Task<W> {
    using F = Floats<W>;
    using Task<W>::Task;
    const float *dy;  // (pixel, channel) of the batch item, from the first channel on
    Gradients grad;
    F *late;      // gradient of the state that is behind the current step
    F *grad_dt;   // in pixel order
    F *grad_us;   // of the chunk
    F *sum_a, *part_a, *sum_w, *part_w;  // sums over all steps, and over a chunk: see `collect`
    F sum_bias;
    F *dys;       // gradient of the output, by step of the chunk
    F *history;   // state before each step of the chunk, and behind the last
    F *decays;    // of each step

    static constexpr int kGroup = 16;

    static int64_t floats(const Scan &p) {
        return Task<W>::floats(p) + W * (3 * p.states + 2 * p.rank + p.pixels + 2 * p.chunk +
                                         (2 * p.chunk + 1) * kGroup);
    }

    void place(Scratch &scratch) {
        const Scan &p = this->p;
        Task<W>::place(scratch);
        late = scratch.take<W>(p.states);
        sum_a = scratch.take<W>(p.states);
        part_a = scratch.take<W>(p.states);
        sum_w = scratch.take<W>(p.rank);
        part_w = scratch.take<W>(p.rank);
        grad_dt = scratch.take<W>(p.pixels);
        grad_us = scratch.take<W>(p.chunk);
        dys = scratch.take<W>(p.chunk);
        history = scratch.take<W>((p.chunk + 1) * kGroup);
        decays = scratch.take<W>(p.chunk * kGroup);
    }

    // Makes S states of a chunk again from those at its start.
    template <int S>
    void replay(const int32_t *pixel, int64_t n, int64_t s0, const F *start) {
        const F *RESTRICT powers = this->powers + s0;
        F h[S];
        for (int s = 0; s < S; ++s) h[s] = start[s0 + s];
        for (int64_t t = 0; t < n; ++t) {
            const float *b = this->vectors[t] + s0;
            const F dt = this->dt[pixel[t]], u = this->us[t];
            F *RESTRICT before = history + t * S, *RESTRICT decay = decays + t * S;
#pragma GCC unroll 16
            for (int s = 0; s < S; ++s) {
                before[s] = h[s];
                decay[s] = power<W>(dt, powers[s]);
                h[s] = decay[s] * h[s] + u * b[s];
            }
        }
        for (int s = 0; s < S; ++s) history[n * S + s] = h[s];
    }

    // Takes the gradient of S states back through the chunk: with g that of the state,
    // g_t = C_t dy_t + decay_{t+1} g_{t+1}.
    template <int S>
    void step_back(int64_t k, const int32_t *pixel, int64_t n, int64_t s0) {
        const Scan &p = this->p;
        float *rows = grad.low + k % p.low_sets * this->row + p.rank + s0;
        const F *RESTRICT a = this->a + s0;
        F *RESTRICT part = part_a + s0;
        F g[S];
        for (int s = 0; s < S; ++s) g[s] = late[s0 + s];
        for (int64_t t = n - 1; t >= 0; --t) {
            const float *b = this->vectors[t] + s0, *c = b + p.states;
            const F dt = this->dt[pixel[t]], u = this->us[t], dy_t = dys[t];
            const F *before = history + t * S, *behind = before + S, *decay = decays + t * S;
            F grad_b[S], grad_c[S];
            F grad_u = grad_us[t], step = F{};
#pragma GCC unroll 16
            for (int s = 0; s < S; ++s) {
                g[s] += dy_t * c[s];
                grad_c[s] = dy_t * behind[s];
                grad_b[s] = u * g[s];
                grad_u += g[s] * b[s];
                g[s] *= decay[s];
                const F exponent = g[s] * before[s];  // gradient of dt A
                part[s] += exponent * dt;
                step += exponent * a[s];
            }
            grad_us[t] = grad_u;
            grad_dt[pixel[t]] += step;
            float *to = rows + pixel[t] * p.low_sets * this->row;
            add_sums<W, S>(to, grad_b);
            add_sums<W, S>(to + p.states, grad_c);
        }
        for (int s = 0; s < S; ++s) late[s0 + s] = g[s];
    }

    template <int S>
    void group(int64_t k, const int32_t *pixel, int64_t n, int64_t s0, const F *start) {
        replay<S>(pixel, n, s0, start);
        step_back<S>(k, pixel, n, s0);
    }

    // Adds what a chunk gave, so that no long sum grows by small terms.
    static void collect(F *sum, F *part, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            sum[i] += part[i];
            part[i] = F{};
        }
    }

    // Writes the gradients of the step sizes' parameters, and of the low rank.
    void leave_dt(int64_t k) {
        const Scan &p = this->p;
        const int64_t set = k % p.low_sets;
        for (int64_t from = 0; from < p.pixels; from += p.chunk) {
            const int64_t to = from + p.chunk < p.pixels ? from + p.chunk : p.pixels;
            F part_bias{};
            for (int64_t l = from; l < to; ++l) {
                const float *low = this->low(set, l);
                const F before = grad_dt[l] * sigmoid<W>(this->before_softplus(low));
                float *grad_low = grad.low + (l * p.low_sets + set) * this->row;
                part_bias += before;
                for (int64_t r = 0; r < p.rank; ++r) {
                    part_w[r] += before * low[r];
                    grad_low[r] += sum<W>(before * this->weights[r]);
                }
            }
            sum_bias += part_bias;
            collect(sum_w, part_w, p.rank);
        }
    }

    // Adds vectors to columns of (channel, columns), from the first channel on.
    void add_transposed(const F *from, int64_t columns, float *to) const {
        for (int64_t i = 0; i < columns; ++i) {
            for (int j = 0; j < this->count; ++j) {
                to[(this->first + j) * columns + i] += from[i][j];
            }
        }
    }

    void clear(F *vectors, int64_t count) { std::memset(vectors, 0, sizeof(F) * count); }

    void walk_back(int64_t k, const float *checkpoints) {
        const Scan &p = this->p;
        float *grad_x = grad.x + this->first;
        clear(late, p.states);
        for (int64_t chunk = this->chunks - 1; chunk >= 0; --chunk) {
            const int32_t *pixel = this->walk(k) + chunk * p.chunk;
            const int64_t n = this->steps(chunk);
            this->gather(k, pixel, n);
            for (int64_t t = 0; t < n; ++t) {
                dys[t] = load<W>(dy + pixel[t] * p.channels, this->count);
            }
            clear(grad_us, n);
            const F *start = reinterpret_cast<const F *>(
                this->kept(const_cast<float *>(checkpoints), k, chunk));
            int64_t s = 0;
            for (; s + 16 <= p.states; s += 16) group<16>(k, pixel, n, s, start);
            for (; s + 4 <= p.states; s += 4) group<4>(k, pixel, n, s, start);
            for (; s < p.states; ++s) group<1>(k, pixel, n, s, start);
            collect(sum_a, part_a, p.states);
            for (int64_t t = 0; t < n; ++t) {
                float *to = grad_x + pixel[t] * p.channels;
                grad_dt[pixel[t]] += grad_us[t] * this->xs[t];
                const F x = load<W>(to, this->count) + grad_us[t] * this->dt[pixel[t]];
                store<W>(to, x, this->count);
            }
        }
    }

    // What the skip gives: the start of the gradient of x, and the gradient of its weights.
    void skip() {
        const Scan &p = this->p;
        const F weights = load<W>(p.skip + this->first, this->count);
        F total{};
        for (int64_t from = 0; from < p.pixels; from += p.chunk) {
            const int64_t to = from + p.chunk < p.pixels ? from + p.chunk : p.pixels;
            F part{};
            for (int64_t l = from; l < to; ++l) {
                const F dy_l = load<W>(dy + l * p.channels, this->count);
                part += dy_l * load<W>(this->channels(p.x, l), this->count);
                store<W>(grad.x + l * p.channels + this->first, weights * dy_l, this->count);
            }
            total += part;
        }
        store<W>(grad.skip + this->first, total, this->count);
    }

    void run(const float *all_dy, const float *checkpoints, const Gradients &gradients) {
        const Scan &p = this->p;
        grad = gradients;
        dy = this->channels(all_dy, 0);
        clear(part_a, p.states);
        clear(part_w, p.rank);
        skip();
        for (int64_t k = 0; k < p.directions; ++k) {
            this->enter(k);
            if (k == 0 || !this->one_dt) clear(grad_dt, p.pixels);
            clear(sum_a, p.states);
            walk_back(k, checkpoints);
            add_transposed(sum_a, p.states, grad.a + k % p.a_sets * p.channels * p.states);
            if (k + 1 < p.directions && this->one_dt) continue;
            clear(sum_w, p.rank);
            sum_bias = F{};
            leave_dt(k);
            add_transposed(sum_w, p.rank, grad.w_dt + k % p.w_sets * p.channels * p.rank);
            add_transposed(&sum_bias, 1, grad.bias + k % p.bias_sets * p.channels);
        }
    }
};

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Runs a pass over the channels of a block, in vectors as wide as there are, or half as wide where
// that is enough. Returns 0; 1 if there is no memory.
template <template <int> class Pass, int W = kLanes, typename... Arguments>
int over_channels(const Scan &scan, int64_t item, int64_t block, const Arguments &...arguments) {
    const int64_t begin = block * kBlock;
    const int64_t end = begin + kBlock < scan.channels ? begin + kBlock : scan.channels;
    for (int64_t first = begin; first < end; first += W) {
        const int count = static_cast<int>(end - first < W ? end - first : W);
        if constexpr (W > 4) {
            if (count <= W / 2) {
                Scratch scratch(Pass<W / 2>::floats(scan));
                if (!scratch.there()) return 1;
                Pass<W / 2> pass(scan, item, first, count);
                pass.place(scratch);
                pass.run(arguments...);
                continue;
            }
        }
        Scratch scratch(Pass<W>::floats(scan));
        if (!scratch.there()) return 1;
        Pass<W> pass(scan, item, first, count);
        pass.place(scratch);
        pass.run(arguments...);
    }
    return 0;
}

}  // namespace

extern "C" {

// Writes the sum of the scans, y (batch, pixel, channel), of one block of channels; and, where
// `checkpoints` is given, (batch, block, walk, chunk, 16 states), the state before each chunk.
int pixelssr_scan_forward(const Scan *scan, int64_t item, int64_t block, float *y,
                          float *checkpoints) {
    return over_channels<Forward>(*scan, item, block, y, checkpoints);
}

// Writes the gradients of one block of channels for that of y. The parts of a task that has several
// sets or blocks to add are to be 0 before: low, w_dt, a and bias.
int pixelssr_scan_backward(const Scan *scan, int64_t item, int64_t block, const float *dy,
                           const float *checkpoints, const Gradients *gradients) {
    return over_channels<Backward>(*scan, item, block, dy, checkpoints, *gradients);
}
}
