// What users of Eclipse Paho for Java do, in both versions, with certificates, by WebSocket, and over a kill of the gateway. The arguments: the
// port of the open listener, the folder of the certificates, the port of the listener that demands them, and that of the same by WebSocket.
// Prints `kill` when the gateway is to be killed, and reads the new port of the open listener. Exits 0 if all of it works.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

public class Clients {
    static final long DEADLINE_MS = 30_000;
    static final AtomicInteger COUNT = new AtomicInteger();

    static String open;
    static Path folder;

    /** A message that has come; `about` is of version 5. */
    record Message(String topic, String payload, int qos, boolean isRetained, MqttProperties about) {}

    /** What is said of a connection. */
    static class Options {
        String url = open;
        boolean isClean = true;
        boolean isKept;
        String will;
        SSLSocketFactory encryption;
    }

    /** A client of one of the versions, whose messages can be waited for. It does not reconnect by itself. */
    abstract static class Client {
        final BlockingQueue<Message> messages = new LinkedBlockingQueue<>();
        final CountDownLatch lost = new CountDownLatch(1);

        /** Whether there was a session. */
        abstract boolean start(Options options) throws Exception;

        abstract int[] subscribe(String[] filters, int[] qualities) throws Exception;

        abstract void unsubscribe(String filter) throws Exception;

        abstract void publish(String topic, byte[] payload, int qos, boolean isRetained) throws Exception;

        /** With a DISCONNECT, or without it. */
        abstract void end(boolean isPolite) throws Exception;

        void publish(String topic, String payload, int qos) throws Exception {
            publish(topic, payload.getBytes(StandardCharsets.UTF_8), qos, false);
        }

        Message next() throws Exception {
            Message next = messages.poll(DEADLINE_MS, TimeUnit.MILLISECONDS);
            if (next == null) {
                throw new AssertionError("waited in vain for a message");
            }
            return next;
        }

        Message expect(String topic, String payload, int qos, boolean isRetained) throws Exception {
            Message next = next();
            equal(new Message(next.topic, next.payload, next.qos, next.isRetained, null),
                    new Message(topic, payload, qos, isRetained, null));
            return next;
        }
    }

    static class Three extends Client {
        final org.eclipse.paho.client.mqttv3.MqttClient mqtt;

        Three(String url, String clientId) throws Exception {
            mqtt = new org.eclipse.paho.client.mqttv3.MqttClient(
                    url, clientId, new org.eclipse.paho.client.mqttv3.persist.MemoryPersistence());
            mqtt.setTimeToWait(DEADLINE_MS);
            mqtt.setCallback(new org.eclipse.paho.client.mqttv3.MqttCallback() {
                public void connectionLost(Throwable cause) {
                    lost.countDown();
                }

                public void messageArrived(String topic, org.eclipse.paho.client.mqttv3.MqttMessage message) {
                    messages.add(new Message(topic, text(message.getPayload()), message.getQos(), message.isRetained(), null));
                }

                public void deliveryComplete(IMqttDeliveryToken token) {}
            });
        }

        boolean start(Options options) throws Exception {
            MqttConnectOptions connect = new MqttConnectOptions();
            connect.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
            connect.setCleanSession(options.isClean && !options.isKept);
            if (options.will != null) {
                connect.setWill("wills/java-4", bytes(options.will), 1, false);
            }
            if (options.encryption != null) {
                connect.setSocketFactory(options.encryption);
            }
            return mqtt.connectWithResult(connect).getSessionPresent();
        }

        int[] subscribe(String[] filters, int[] qualities) throws Exception {
            // It puts the granted ones into the same array.
            int[] granted = qualities.clone();
            mqtt.subscribe(filters, granted);
            return granted;
        }

        void unsubscribe(String filter) throws Exception {
            mqtt.unsubscribe(filter);
        }

        void publish(String topic, byte[] payload, int qos, boolean isRetained) throws Exception {
            mqtt.publish(topic, payload, qos, isRetained);
        }

        void end(boolean isPolite) throws Exception {
            if (isPolite) {
                mqtt.disconnect();
            } else {
                mqtt.disconnectForcibly(1, 1, false);
            }
            mqtt.close();
        }
    }

    static class Five extends Client {
        final org.eclipse.paho.mqttv5.client.MqttAsyncClient mqtt;

        Five(String url, String clientId) throws Exception {
            mqtt = new org.eclipse.paho.mqttv5.client.MqttAsyncClient(
                    url, clientId, new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence());
            mqtt.setCallback(new org.eclipse.paho.mqttv5.client.MqttCallback() {
                public void disconnected(MqttDisconnectResponse response) {
                    lost.countDown();
                }

                public void mqttErrorOccurred(MqttException exception) {}

                public void messageArrived(String topic, MqttMessage message) {
                    messages.add(new Message(topic, text(message.getPayload()), message.getQos(), message.isRetained(),
                            message.getProperties()));
                }

                public void deliveryComplete(IMqttToken token) {}

                public void connectComplete(boolean isAgain, String server) {}

                public void authPacketArrived(int reason, MqttProperties properties) {}
            });
        }

        boolean start(Options options) throws Exception {
            MqttConnectionOptions connect = new MqttConnectionOptions();
            connect.setCleanStart(options.isClean);
            connect.setSessionExpiryInterval(options.isKept ? 300L : 0L);
            if (options.will != null) {
                connect.setWill("wills/java-5", new MqttMessage(bytes(options.will), 1, false, null));
            }
            if (options.encryption != null) {
                connect.setSocketFactory(options.encryption);
            }
            return wait(mqtt.connect(connect)).getSessionPresent();
        }

        static IMqttToken wait(IMqttToken token) throws Exception {
            token.waitForCompletion(DEADLINE_MS);
            return token;
        }

        int[] subscribe(String[] filters, int[] qualities) throws Exception {
            return wait(mqtt.subscribe(filters, qualities)).getReasonCodes();
        }

        void unsubscribe(String filter) throws Exception {
            wait(mqtt.unsubscribe(filter));
        }

        void publish(String topic, byte[] payload, int qos, boolean isRetained) throws Exception {
            wait(mqtt.publish(topic, payload, qos, isRetained));
        }

        void publish(String topic, String payload, int qos, MqttProperties about) throws Exception {
            wait(mqtt.publish(topic, new MqttMessage(bytes(payload), qos, false, about)));
        }

        /** The reason code of the acknowledgement. */
        int reason(String topic, String payload) throws Exception {
            IMqttToken token = mqtt.publish(topic, bytes(payload), 1, false);
            try {
                token.waitForCompletion(DEADLINE_MS);
            } catch (MqttException problem) {
                return problem.getReasonCode();
            }
            return token.getReasonCodes()[0];
        }

        void end(boolean isPolite) throws Exception {
            if (isPolite) {
                wait(mqtt.disconnect());
            } else {
                mqtt.disconnectForcibly(1, 1, false);
            }
            mqtt.close();
        }
    }

    static Client made(int version, String url, String clientId) throws Exception {
        return version == 5 ? new Five(url, clientId) : new Three(url, clientId);
    }

    static Client start(int version, String clientId) throws Exception {
        Client client = made(version, open, clientId + "-" + COUNT.incrementAndGet());
        equal(client.start(new Options()), false);
        return client;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static void equal(Object found, Object expected) {
        if (!Objects.deepEquals(found, expected)) {
            throw new AssertionError(shown(found) + ", not " + shown(expected));
        }
    }

    static String shown(Object value) {
        return value instanceof int[] numbers ? Arrays.toString(numbers) : String.valueOf(value);
    }

    static void allQualitiesBothWays(int version) throws Exception {
        Client subscriber = start(version, "subscriber");
        Client publisher = start(version, "publisher");
        String[] filters = {"devices/java-" + version + "/+", "low/" + version, "middle/" + version};
        equal(subscriber.subscribe(filters, new int[] {2, 0, 1}), new int[] {2, 0, 1});
        for (int qos = 0; qos <= 2; qos++) {
            publisher.publish("devices/java-" + version + "/t", "{\"t\":" + qos + "}", qos);
            subscriber.expect("devices/java-" + version + "/t", "{\"t\":" + qos + "}", qos, false);
            publisher.publish("middle/" + version, "x", qos);
            subscriber.expect("middle/" + version, "x", Math.min(qos, 1), false);
        }
        publisher.publish("low/" + version, "x", 2);
        subscriber.expect("low/" + version, "x", 0, false);
        subscriber.unsubscribe("middle/" + version);
        publisher.publish("middle/" + version, "not any more", 1);
        publisher.publish("low/" + version, "last", 1);
        subscriber.expect("low/" + version, "last", 0, false);
        subscriber.end(true);
        publisher.end(true);
    }

    static void retained(int version) throws Exception {
        Client publisher = start(version, "publisher");
        publisher.publish("state/java/" + version, bytes("on"), 1, true);
        for (boolean isThere : new boolean[] {true, false}) {
            Client late = start(version, "late");
            late.subscribe(new String[] {"state/java/" + version, "end/" + version}, new int[] {1, 1});
            publisher.publish("end/" + version, "x", 1);
            if (isThere) {
                late.expect("state/java/" + version, "on", 1, true);
            }
            late.expect("end/" + version, "x", 1, false);
            late.end(true);
            publisher.publish("state/java/" + version, new byte[0], 1, true);
        }
        publisher.end(true);
    }

    static void will(int version) throws Exception {
        Client watcher = start(version, "watcher");
        watcher.subscribe(new String[] {"wills/java-" + version}, new int[] {2});
        for (boolean isPolite : new boolean[] {true, false}) {
            Client mortal = made(version, open, "mortal-" + version);
            Options options = new Options();
            options.will = isPolite ? "never" : "gone";
            equal(mortal.start(options), false);
            mortal.end(isPolite);
        }
        watcher.expect("wills/java-" + version, "gone", 1, false);
        watcher.end(true);
    }

    static void propertiesOfVersion5() throws Exception {
        Client subscriber = start(5, "subscriber");
        Client old = start(4, "old");
        Five publisher = (Five) start(5, "publisher");
        for (Client client : List.of(subscriber, old)) {
            client.subscribe(new String[] {"ask/#"}, new int[] {2});
        }
        List<UserProperty> road =
                List.of(new UserProperty("road", "dry"), new UserProperty("driver", "anna"), new UserProperty("road", "icy"));
        MqttProperties about = new MqttProperties();
        about.setUserProperties(road);
        about.setMessageExpiryInterval(60L);
        about.setResponseTopic("answers/java");
        about.setCorrelationData(new byte[] {0, 7});
        about.setContentType("text/plain");
        about.setPayloadFormat(true);
        publisher.publish("ask/a", "?", 2, about);
        MqttProperties said = subscriber.expect("ask/a", "?", 2, false).about;
        equal(said.getUserProperties(), road);
        equal(said.getResponseTopic(), "answers/java");
        equal(said.getCorrelationData(), new byte[] {0, 7});
        equal(said.getContentType(), "text/plain");
        equal(said.getPayloadFormat(), true);
        long left = said.getMessageExpiryInterval();
        equal(left > 50 && left <= 60, true);
        old.expect("ask/a", "?", 2, false);
        for (Client client : List.of(subscriber, publisher, old)) {
            client.end(true);
        }
    }

    static MqttProperties expiringAfter(long seconds) {
        MqttProperties about = new MqttProperties();
        about.setMessageExpiryInterval(seconds);
        return about;
    }

    static void expiryOfVersion5() throws Exception {
        Options kept = new Options();
        kept.isKept = true;
        Client keeper = made(5, open, "expecting");
        equal(keeper.start(kept), false);
        keeper.subscribe(new String[] {"soon/#"}, new int[] {1});
        keeper.end(true);
        Five publisher = (Five) start(5, "publisher");
        publisher.publish("soon/t", "useless", 1, expiringAfter(1));
        publisher.publish("soon/t", "of use", 1, expiringAfter(600));
        // It is the passing of time that is tested.
        Thread.sleep(1100);
        Options back = new Options();
        back.isClean = false;
        keeper = made(5, open, "expecting");
        equal(keeper.start(back), true);
        keeper.expect("soon/t", "of use", 1, false);
        keeper.end(true);
        publisher.end(true);
    }

    /** With a device's certificate and key, or without. */
    static SSLSocketFactory encryption(String device) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (var file = Files.newInputStream(folder.resolve("ca.pem"))) {
            trusted.setCertificateEntry("ca", factory.generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyStore own = KeyStore.getInstance(KeyStore.getDefaultType());
        own.load(null);
        if (device != null) {
            String pem = Files.readString(folder.resolve("devices/" + device + ".key"));
            byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
            try (var file = Files.newInputStream(folder.resolve("devices/" + device + ".pem"))) {
                var key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
                own.setKeyEntry("own", key, new char[0], new Certificate[] {factory.generateCertificate(file)});
            }
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, new char[0]);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }

    static void certificate(int version, String url) throws Exception {
        Options options = new Options();
        options.encryption = encryption("truck-7");
        Client truck = made(version, url, "truck-7");
        equal(truck.start(options), false);
        equal(truck.subscribe(new String[] {"devices/truck-7/#"}, new int[] {1}), new int[] {1});
        truck.publish("devices/truck-7/temperature", "21.5", 1);
        truck.expect("devices/truck-7/temperature", "21.5", 1, false);
        String large = "x".repeat(200_000);
        truck.publish("devices/truck-7/note", large, 2);
        truck.expect("devices/truck-7/note", large, 1, false);
        if (truck instanceof Five five) {
            equal(five.reason("devices/truck-8/temperature", "21.5"), 0x87);
        }
        truck.end(true);
        options.encryption = encryption(null);
        Client stranger = made(version, url, "stranger");
        try {
            stranger.start(options);
        } catch (MqttException | org.eclipse.paho.client.mqttv3.MqttException refused) {
            return;
        }
        throw new AssertionError("a client without a certificate is let in");
    }

    static List<Client> keepers(boolean isKnown) throws Exception {
        List<Client> keepers = new ArrayList<>();
        for (int version : new int[] {4, 5}) {
            Options options = new Options();
            options.isClean = false;
            options.isKept = true;
            Client keeper = made(version, open, "kept-java-" + version);
            equal(keeper.start(options), isKnown);
            keepers.add(keeper);
        }
        return keepers;
    }

    static Client beforeAKill() throws Exception {
        for (Client keeper : keepers(false)) {
            keeper.subscribe(new String[] {"kept/#"}, new int[] {2});
            keeper.end(true);
        }
        Five publisher = (Five) start(5, "publisher");
        publisher.publish("state/kept", bytes("on"), 1, true);
        for (int number = 0; number < 60; number++) {
            MqttProperties about = expiringAfter(600);
            about.setUserProperties(List.of(new UserProperty("number", String.valueOf(number))));
            publisher.publish("kept/t", String.valueOf(number), 1 + number % 2, about);
        }
        return publisher;
    }

    static void afterAKill() throws Exception {
        List<Client> keepers = keepers(true);
        Client publisher = start(5, "publisher");
        publisher.publish("kept/t", "after", 1);
        for (Client keeper : keepers) {
            List<Message> came = new ArrayList<>();
            while (came.size() < 61) {
                came.add(keeper.next());
            }
            // What has QoS 2 is shown when it is released, which may be after later messages of QoS 1.
            for (int qos : new int[] {1, 2}) {
                List<String> sent = new ArrayList<>(
                        IntStream.range(0, 60).filter(number -> 1 + number % 2 == qos).mapToObj(String::valueOf).toList());
                sent.addAll(qos == 1 ? List.of("after") : List.of());
                equal(came.stream().filter(message -> message.qos == qos).map(Message::payload).toList(), sent);
            }
            for (Message message : came) {
                if (keeper instanceof Five && !message.payload.equals("after")) {
                    equal(message.about.getUserProperties(), List.of(new UserProperty("number", message.payload)));
                    equal(message.about.getMessageExpiryInterval() <= 600, true);
                }
            }
            keeper.end(true);
        }
        Client late = start(4, "late");
        late.subscribe(new String[] {"state/#"}, new int[] {1});
        late.expect("state/kept", "on", 1, true);
        late.end(true);
        publisher.end(true);
    }

    static void run(String[] arguments) throws Exception {
        open = "tcp://127.0.0.1:" + arguments[0];
        folder = Path.of(arguments[1]);
        List<Callable<Void>> scenarios = new ArrayList<>();
        for (int version : new int[] {4, 5}) {
            scenarios.add(() -> {
                allQualitiesBothWays(version);
                retained(version);
                will(version);
                return null;
            });
        }
        scenarios.add(() -> {
            for (int version : new int[] {4, 5}) {
                certificate(version, "ssl://127.0.0.1:" + arguments[2]);
                certificate(version, "wss://127.0.0.1:" + arguments[3] + "/mqtt");
            }
            return null;
        });
        scenarios.add(() -> {
            propertiesOfVersion5();
            expiryOfVersion5();
            return null;
        });
        // At the same time: this client waits a third of a second for its own threads at each connect.
        for (Future<Void> scenario : Executors.newCachedThreadPool().invokeAll(scenarios)) {
            scenario.get();
        }
        Client connected = beforeAKill();
        System.out.println("kill");
        String port = new BufferedReader(new InputStreamReader(System.in)).readLine();
        equal(connected.lost.await(DEADLINE_MS, TimeUnit.MILLISECONDS), true);
        open = "tcp://127.0.0.1:" + port;
        afterAKill();
    }

    public static void main(String[] arguments) {
        try {
            run(arguments);
        } catch (Throwable problem) {
            problem.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }
}
