/* The most 8-bit multiply-adds that one core does in a second: nothing but the instruction that int8 matrix products are made of, on registers alone.
   Prints operations (two per multiply-add) per CPU second. */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

#define ROUNDS 30000000L
/* More chains than latency times throughput, so that the unit never waits for a result. Named one by one: an array would be spilled to the stack. */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define CHAINS 12

#if defined(__AVX512VNNI__)
typedef __m512i vector;
#define MULTIPLY_ADD _mm512_dpbusd_epi32
#define SET _mm512_set1_epi8
#define ADD _mm512_add_epi32
#define FIRST _mm512_cvtsi512_si32
#define BYTES 64
#elif defined(__AVXVNNI__)
typedef __m256i vector;
#define MULTIPLY_ADD _mm256_dpbusd_avx_epi32
#define SET _mm256_set1_epi8
#define ADD _mm256_add_epi32
#define FIRST _mm256_cvtsi256_si32
#define BYTES 32
#else
#error "no 8-bit multiply-add instruction that this program knows"
#endif

#define DECLARE(n) vector sum##n = SET(n);
#define STEP(n) sum##n = MULTIPLY_ADD(sum##n, a, b); __asm__ volatile("" : "+v"(sum##n));
#define GATHER(n) total = ADD(total, sum##n);

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int count, char **arguments) {
    vector a = SET((char)count), b = SET((char)(count + (arguments[0] != 0))), total = SET(0);
    EACH(DECLARE)
    double began = cpu_seconds();
    for (long round = 0; round < ROUNDS; round++) {
        EACH(STEP)
    }
    double seconds = cpu_seconds() - began;
    EACH(GATHER)
    fprintf(stderr, "%d\n", FIRST(total)); /* so that nothing is left out as unused */
    printf("%.6g\n", 2.0 * BYTES * CHAINS * ROUNDS / seconds);
    return 0;
}
